"""HiFT's excitation: F0 from mel, and harmonics plus noise from F0."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from export.convolution import Conv

F0_LAYERS = 5


class F0Predictor(nn.Module):
    """Five convolutions and a linear layer."""

    def __init__(self, mel_channels: int, channels: int):
        super().__init__()
        # Indices of the released sequence: an activation stands after every convolution.
        self.condnet = nn.ModuleDict(
            {
                str(2 * layer): Conv(channels if layer else mel_channels, channels, 3, padding=1)
                for layer in range(F0_LAYERS)
            }
        )
        self.classifier = nn.Linear(channels, 1)

    def forward(self, mel: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map mel [B, mel, 1, T] to Hz per frame [B, T], zero where `mask` [B, 1, 1, T] is."""
        x = mel * mask
        for conv in self.condnet.values():
            x = F.elu(conv(x)) * mask
        return self.classifier(x[:, :, 0].transpose(1, 2))[..., 0].abs() * mask[:, 0, 0]


class HarmonicSource(nn.Module):
    """Sines of F0 and its overtones where a frame is voiced, noise where it is not, merged into one channel.

    Step-Audio-EditX adds independent Gaussian noise of equal amplitude to each of the nine sines and merges them by a
    linear layer. A weighted sum of independent Gaussians is one Gaussian times the norm of the weights, so one channel
    of noise gives the same distribution.

    Phase, counted in turns, grows by f / frame rate per frame. The original sums f / sampling rate in float32 and
    multiplies by the hop, which loses about 1e-3 turns per second of speech at the highest overtone. Here whole turns
    are dropped before the sum, which keeps it small; the remaining error is below that of F0 itself.
    """

    basis: torch.Tensor
    orders: torch.Tensor

    def __init__(
        self, harmonics: int, sampling_rate: int, hop: int, sine_amplitude: float, noise_std: float, threshold: float
    ):
        super().__init__()
        self.l_linear = nn.Linear(harmonics + 1, 1)
        self.sampling_rate, self.hop = sampling_rate, hop
        self.sine_amplitude, self.noise_std, self.threshold = sine_amplitude, noise_std, threshold
        self.register_buffer("orders", torch.arange(1, harmonics + 2, dtype=torch.float32)[:, None], persistent=False)
        self.register_buffer("basis", _interpolation(hop), persistent=False)

    def forward(self, f0: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Map F0 in Hz [B, T] and standard normal noise [B, hop * T] to the source [B, hop * T]."""
        sines = self._sines(f0)
        voiced = (f0 > self.threshold).to(f0.dtype)
        noise_amplitude = voiced * self.noise_std + (1 - voiced) * (self.sine_amplitude / 3)
        weight = self.l_linear.weight
        harmonic = (weight * self.sine_amplitude) @ sines.flatten(2)
        per_frame = (f0.shape[0], -1, self.hop)
        merged = harmonic.reshape(per_frame) * voiced[..., None]
        merged = merged + noise.reshape(per_frame) * (noise_amplitude * weight.norm())[..., None]
        return torch.tanh(merged + self.l_linear.bias).flatten(1)

    def _sines(self, f0: torch.Tensor) -> torch.Tensor:
        """Make the sine of every harmonic, [B, harmonics + 1, T, hop]."""
        per_sample = f0[:, None] * self.orders / self.sampling_rate
        turns = (per_sample - per_sample.floor()) * self.hop
        centre = torch.cumsum(turns - torch.round(turns), dim=2)
        centre = centre - torch.round(centre)
        # Up to the first centre and from the last one on, the phase stands still.
        before = F.pad(turns[..., 1:], (1, 0))
        after = F.pad(turns[..., 1:], (0, 1))
        phase = torch.stack([centre, before, after], dim=-1) @ self.basis
        return torch.sin((phase - torch.round(phase)) * (2 * math.pi))


def _interpolation(hop: int) -> torch.Tensor:
    """Weights of a frame's phase, of its growth since the frame before and of its growth to the next, per sample.

    The phase is known at the centre of each frame and linear in between.

    Returns:
        float32 [3, hop].
    """
    offset = (torch.arange(hop, dtype=torch.float64) + 0.5) / hop - 0.5
    return torch.stack([torch.ones_like(offset), offset.clamp(max=0), offset.clamp(min=0)]).to(torch.float32)
