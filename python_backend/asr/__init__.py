"""Speech recognition around the SenseVoice network: cutting long audio, decoding tokens, times of words."""
