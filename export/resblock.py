"""HiFT's residual blocks."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from export.convolution import Conv

MIN_ALPHA = 1e-6


class Snake(nn.Module):
    """Holds alpha, [C], of the activation x + sin²(alpha x) / alpha (Ziyin et al., 2020), which `ResBlock` applies."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))


class ResBlock(nn.Module):
    """Residual pairs of a dilated and a plain convolution with Snake in front of each.

    `fold` moves the multiplications by alpha and 1 / alpha into the neighbouring convolutions, which leaves
    y + sin(y) * sin(y): the masks then cost no more than those multiplications did.
    """

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        self.reach = sum((kernel - 1) // 2 * (dilation + 1) for dilation in dilations)

        def conv(dilation: int) -> Conv:
            return Conv(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def _pairs(self) -> Iterator[tuple[Any, Any, Any, Any]]:
        return zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)

    @torch.no_grad()
    def fold(self) -> None:
        """Move alpha into the weights; call once, after loading.

        An alpha nearer to zero than 1e-6 counts as that: the activation is the identity there to float precision.
        """
        for first, conv1, second, conv2 in self._pairs():
            for snake in (first, second):
                sign = torch.where(snake.alpha < 0, -1.0, 1.0)
                snake.alpha.copy_(sign * snake.alpha.abs().clamp(min=MIN_ALPHA))
            conv1.weight.mul_(second.alpha[:, None, None]).div_(first.alpha[:, None])
            conv1.bias.mul_(second.alpha)
            conv2.weight.div_(second.alpha[:, None])

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map [B, C, H, T] to the same; what `mask` [B, 1, H, T] zeroes is ignored, and meaningless in the result."""
        for first, conv1, _, conv2 in self._pairs():
            y = conv1(_folded_snake(x * first.alpha[:, None, None]) * mask)
            x = x + conv2(_folded_snake(y) * mask)
        return x


def _folded_snake(y: torch.Tensor) -> torch.Tensor:
    sine = torch.sin(y)
    return y + sine * sine
