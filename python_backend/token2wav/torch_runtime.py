"""The flow on torch, CPU or CUDA."""

from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file

from python_backend.token2wav.config import FlowConfig
from python_backend.token2wav.flow import Flow

WEIGHTS = "flow.safetensors"
CONFIG = "flow.json"


class TorchRuntime:
    """Runs `Flow`; see `FlowRuntime` for the methods.

    Args:
        flow: with weights, in float32.
        device: where to run.
        dtype: of the estimator's blocks; the rest stays in float32.
    """

    def __init__(self, flow: Flow, device: torch.device, dtype: torch.dtype):
        self._flow = flow.eval().to(device)
        self._flow.decoder.estimator.cast_blocks(dtype)
        self._device = device

    @classmethod
    def load(cls, directory: Path, device: torch.device, dtype: torch.dtype) -> Self:
        """Read `flow.json` and `flow.safetensors`."""
        with torch.device("meta"):
            flow = Flow(FlowConfig.read(directory / CONFIG))
        flow.to_empty(device="cpu").load_state_dict(load_file(directory / WEIGHTS))
        return cls(flow, device, dtype)

    @property
    def flow(self) -> Flow:
        """The networks on their device, for chunked work."""
        return self._flow

    def context(
        self, pairs: torch.Tensor, lengths: torch.Tensor, speaker_embedding: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """See `Flow.context`."""
        arguments = (tensor.to(self._device) for tensor in (pairs, lengths, speaker_embedding, condition))
        return self._flow.context(*arguments)

    def modulation(self, times: torch.Tensor) -> torch.Tensor:
        """See `DiT.modulation`."""
        return self._flow.decoder.estimator.modulation(times.to(self._device))

    def velocity(
        self, x: torch.Tensor, context: torch.Tensor, modulation: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """See `DiT.forward`."""
        velocity: torch.Tensor = self._flow.decoder.estimator(x, context, modulation, mask)
        return velocity
