"""STFT and its inverse as convolutions: no complex numbers and no overlap-add by scatter, so every runtime has them."""

import math

import torch
from torch import nn
from torch.nn import functional as F

TINY = 1e-8


def _window(size: int) -> torch.Tensor:
    """Return the periodic Hann window, float64 [size]."""
    return torch.hann_window(size, periodic=True, dtype=torch.float64)


def _angles(size: int) -> torch.Tensor:
    """Return 2 pi k n / size for every bin k and sample n: float64 [size // 2 + 1, size]."""
    bins = torch.arange(size // 2 + 1, dtype=torch.float64)
    samples = torch.arange(size, dtype=torch.float64)
    return 2 * math.pi * bins[:, None] * samples / size


class Stft(nn.Module):
    """Centred STFT with reflection at the ends, the right one at each row's own length."""

    kernel: torch.Tensor

    def __init__(self, size: int, hop: int):
        super().__init__()
        self.hop, self.margin = hop, size // 2
        angle, window = _angles(size), _window(size)
        kernel = torch.cat([torch.cos(angle) * window, -torch.sin(angle) * window])
        self.register_buffer("kernel", kernel[:, None, None].to(torch.float32), persistent=False)

    def forward(self, x: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Transform [B, S] with `length` int32 [B, 1] to [B, 2 * bins, 1, S / hop + 1]: real parts, then imaginary."""
        # Exact in float32 for twelve minutes, and TensorRT clamps no integers.
        position = torch.arange(-self.margin, x.shape[1] + self.margin, device=x.device).to(torch.float32)
        last = length.to(torch.float32) - 1
        mirrored = (last - (last - position.abs()[None]).abs()).clamp(min=0)
        padded = torch.gather(x, 1, mirrored.to(torch.int64))
        return F.conv2d(padded[:, None, None], self.kernel, stride=(1, self.hop))


class InverseStft(nn.Module):
    """Inverse of the centred STFT: windowed overlap-add, divided by the overlapped squared window."""

    kernel: torch.Tensor
    envelope: torch.Tensor

    def __init__(self, size: int, hop: int):
        super().__init__()
        self.hop, self.margin = hop, size // 2
        angle, window = _angles(size), _window(size)
        # All bins but the first and the last stand for two.
        weight = torch.full((size // 2 + 1, 1), 2.0, dtype=torch.float64)
        weight[[0, -1]] = 1.0
        kernel = torch.cat([torch.cos(angle), -torch.sin(angle)]) * torch.cat([weight, weight]) * window / size
        self.register_buffer("kernel", kernel[:, None, None].to(torch.float32), persistent=False)
        self.register_buffer("envelope", window.square()[None, None, None].to(torch.float32), persistent=False)

    def forward(self, magnitude: torch.Tensor, phase: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Transform [B, bins, 1, F] back to [B, hop * (F - 1)], using the frames that `mask` [B, 1, 1, F] keeps."""
        spectrum = torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1) * mask
        summed = F.conv_transpose2d(spectrum, self.kernel, stride=(1, self.hop))
        envelope = F.conv_transpose2d(mask, self.envelope, stride=(1, self.hop))
        waveform = summed / envelope.clamp(min=TINY)
        return waveform[:, 0, 0, self.margin : -self.margin]
