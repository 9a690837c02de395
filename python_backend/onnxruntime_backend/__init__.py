"""A stand-in for Triton's native ONNX Runtime backend, where only the Python backend exists."""
