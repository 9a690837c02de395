"""The flow on ONNX Runtime: its CPU, CUDA or TensorRT provider, without torch weights in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

GRAPHS = ("context", "modulation", "velocity")
CUDA_PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


class OnnxRuntime:
    """Runs the three exported graphs in float32; see `FlowRuntime` for the methods.

    Args:
        directory: holds `context.onnx`, `modulation.onnx` and `velocity.onnx`.
        device: `cpu`, or `cuda` for whichever GPU providers are installed.
    """

    def __init__(self, directory: Path, device: str):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        wanted = CUDA_PROVIDERS if device == "cuda" else ["CPUExecutionProvider"]
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        self._sessions = {
            name: onnxruntime.InferenceSession(directory / f"{name}.onnx", options, providers=providers)
            for name in GRAPHS
        }

    def context(
        self, pairs: torch.Tensor, lengths: torch.Tensor, speaker_embedding: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """See `Flow.context`."""
        return self._run(
            "context", pairs=pairs, lengths=lengths, speaker_embedding=speaker_embedding, condition=condition
        )

    def modulation(self, times: torch.Tensor) -> torch.Tensor:
        """See `DiT.modulation`."""
        return self._run("modulation", times=times)

    def velocity(
        self, x: torch.Tensor, context: torch.Tensor, modulation: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """See `DiT.forward`."""
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool)
        return self._run("velocity", x=x, context=context, modulation=modulation, mask=mask)

    def _run(self, graph: str, **tensors: torch.Tensor) -> torch.Tensor:
        feeds: dict[str, NDArray[Any]] = {name: np.ascontiguousarray(value.numpy()) for name, value in tensors.items()}
        return torch.from_numpy(self._sessions[graph].run(None, feeds)[0])
