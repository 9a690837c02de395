"""The network's element-wise parts: torch's operators on a CPU, one kernel each on a GPU, where every launch counts.

The kernels have no gradient, so training takes torch's operators everywhere.
"""

import torch
import torch.nn.functional as F


def add_rms_norm(
    x: torch.Tensor, update: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x + update and its norm, x / rms(x) · weight over the last dimension, the mean square in float32.

    Args:
        x: [..., hidden].
        update: of the same shape; None adds nothing.
        weight: [hidden].
    """
    if x.is_cuda and not torch.is_grad_enabled():
        from python_backend.llm import kernels

        return kernels.add_rms_norm(x, update, weight, eps)
    total = x if update is None else x + update
    scale = torch.rsqrt(total.float().square().mean(-1, keepdim=True) + eps)
    return total, total * scale.to(x.dtype) * weight


def silu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) · up, both [..., size] with dense last dimensions."""
    if gate.is_cuda and not torch.is_grad_enabled():
        from python_backend.llm import kernels

        return kernels.silu_mul(gate, up)
    return F.silu(gate) * up
