"""The network in the form the machine computes fastest, made once, after loading.

Projections of the same input become one product. In bfloat16 on a CPU, torch's own product brings the weights into
the order of the matrix unit's tiles at every call; oneDNN keeps them in it, with the same result.
"""

import torch
from torch import nn

from python_backend.llm.step1 import MLP, Attention, RMSNorm, Step1

_TYPICAL_ROWS = 16  # oneDNN chooses the tiles for this many; measured good from 1 to 256


class TiledLinear(nn.Module):
    """y = x · Wᵀ on a CPU in bfloat16.

    Args:
        weight: bfloat16 [out, in].
    """

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _TYPICAL_ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., in] to [..., out]."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")
        return out


def linear(weight: torch.Tensor) -> nn.Module:
    """Return the layer y = x · Wᵀ, W [out, in], in the fastest form."""
    if weight.device.type == "cpu" and weight.dtype is torch.bfloat16 and _has_tiles():
        return TiledLinear(weight)
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    plain.weight = nn.Parameter(weight, requires_grad=False)
    return plain


def pack(model: Step1, fuse: bool = False) -> Step1:
    """Replace the plain linear layers of every block, in place; layers of other classes (quantised ones) stay.

    Args:
        fuse: compute the element-wise parts by `kernels`, on a GPU.
    """
    if fuse:
        _fuse(model)
    for module in list(model.modules()):
        if isinstance(module, Attention):
            module.qkv_proj = _join(module, "q_proj", "k_proj", "v_proj")
            module.o_proj = _packed(module.o_proj)
        elif isinstance(module, MLP):
            module.gate_up_proj = _join(module, "gate_proj", "up_proj")
            module.down_proj = _packed(module.down_proj)
    return model


def _fuse(model: Step1) -> None:
    from python_backend.llm import kernels

    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.add_rms_norm = kernels.add_rms_norm
        elif isinstance(module, MLP):
            module.silu_mul = kernels.silu_mul


def _has_tiles() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _packed(layer: nn.Module) -> nn.Module:
    return linear(layer.weight) if type(layer) is nn.Linear else layer


def _join(parent: nn.Module, *names: str) -> nn.Module | None:
    layers = [getattr(parent, name) for name in names]
    if not all(type(layer) is nn.Linear for layer in layers):
        return None
    joined = linear(torch.cat([layer.weight for layer in layers]))
    for name in names:
        delattr(parent, name)
    return joined
