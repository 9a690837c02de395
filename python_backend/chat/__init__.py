"""A local Hugging Face chat model, served by transformers' continuous batching."""
