"""The streamed path of a request: voice, language model, flow and vocoder at the same time."""
