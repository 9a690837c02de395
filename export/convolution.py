"""Convolutions over time written in two dimensions, on [B, C, 1, T].

ONNX Runtime has blocked kernels for these only: they take a third less time on a CPU than its one-dimensional form.
TensorRT knows no other. Parameters keep the one-dimensional shapes that checkpoints hold.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Conv(nn.Conv1d):
    """Convolution with zero padding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, C, 1, T] to [B, out, 1, T']."""
        stride, padding, dilation = self.stride[0], int(self.padding[0]), self.dilation[0]
        return F.conv2d(x, self.weight[:, :, None], self.bias, (1, stride), (0, padding), (1, dilation))


class ConvTranspose(nn.ConvTranspose1d):
    """Transposed convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Map [B, C, 1, T] to [B, out, 1, T']."""
        stride, padding = self.stride[0], int(self.padding[0])
        return F.conv_transpose2d(x, self.weight[:, :, None], self.bias, (1, stride), (0, padding))
