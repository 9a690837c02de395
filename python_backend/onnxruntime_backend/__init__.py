"""A stand-in for Triton's native ONNX Runtime backend, for homes of tritonserver that ship the Python backend only.

Triton serves `backend: "onnxruntime"` with a Python-based backend when the backend directory holds
`onnxruntime/model.py` and no native library, so `server` links `model.py` of this package there. It reads the same
model files and configuration keys as NVIDIA's backend and refuses what NVIDIA's would refuse, so that a model
repository that loads here loads there.
"""
