"""Where the flow's networks run."""

import logging
from pathlib import Path
from typing import Protocol

import torch

from python_backend import threads
from python_backend.token2wav.config import FlowConfig
from python_backend.token2wav.solver import Estimator

log = logging.getLogger(__name__)

CPU_INFO = Path("/proc/cpuinfo")
WORTHWHILE_WIDTH = 256


class FlowRuntime(Estimator, Protocol):
    """Encoder and estimator of one flow checkpoint.

    All arguments are torch tensors on the CPU or on the runtime's device; results are on the latter.
    """

    def context(
        self, pairs: torch.Tensor, lengths: torch.Tensor, speaker_embedding: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """Encode the inputs of a solve; arguments and result as `Flow.context` takes and gives them."""


def open_runtime(directory: Path, runtime: str = "auto", device: str = "auto", dtype: str = "auto") -> FlowRuntime:
    """Load the flow from an exported folder.

    `auto` is torch, on the GPU where there is one. At the released sizes on a CPU with AMX, a solve in bfloat16 takes
    0.3 of the time of float32, and ONNX Runtime takes 1.3 of it; without AMX, bfloat16 takes longer than float32. On
    GPUs nothing was measured.

    Args:
        directory: holds `flow.json` with `flow.safetensors` (torch) or the three graphs (onnxruntime).
        runtime: `auto`, `torch` or `onnxruntime`.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `float32` or `bfloat16`, of the estimator's blocks. `auto` is bfloat16 on GPUs and, for
            networks of some width, on CPUs with AMX; else float32; with onnxruntime always float32.

    Raises:
        ValueError: an unknown choice, or bfloat16 with onnxruntime.
    """
    for name, value, known in (
        ("runtime", runtime, ("auto", "torch", "onnxruntime")),
        ("device", device, ("auto", "cpu", "cuda")),
        ("dtype", dtype, ("auto", "float32", "bfloat16")),
    ):
        if value not in known:
            raise ValueError(f"parameter {name} must be one of {', '.join(known)}, is {value!r}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if runtime == "onnxruntime":
        if dtype == "bfloat16":
            raise ValueError("parameter dtype: the onnxruntime runtime of the flow computes in float32 only")
        from python_backend.token2wav.onnx_runtime import OnnxRuntime

        log.info("flow: onnxruntime on %s", device)
        return OnnxRuntime(directory, device)
    from python_backend.token2wav.torch_runtime import TorchRuntime

    target = torch.device(device)
    width = FlowConfig.read(directory / "flow.json").estimator.hidden_size
    blocks: torch.dtype = default_dtype(target, width) if dtype == "auto" else getattr(torch, dtype)
    log.info("flow: torch on %s, %s", target, blocks)
    loaded = TorchRuntime.load(directory, target, blocks)
    threads.suit(loaded.flow)
    return loaded


def default_dtype(device: torch.device, width: int) -> torch.dtype:
    """Return what the estimator's blocks, `width` channels wide, compute in unless told otherwise.

    A small network solves many times faster than real time in float32 as well, and exactly.
    """
    if device.type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if _has_amx() and width >= WORTHWHILE_WIDTH else torch.float32


def _has_amx() -> bool:
    """Tell whether the CPU multiplies bfloat16 matrices in hardware."""
    return CPU_INFO.exists() and "amx_bf16" in CPU_INFO.read_text(encoding="ascii", errors="ignore")
