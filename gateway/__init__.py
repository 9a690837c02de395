"""OpenAI-compatible HTTP in front of Triton gRPC."""
