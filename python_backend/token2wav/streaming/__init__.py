"""Audio tokens to waveform, chunk by chunk, while the tokens are still being made."""
