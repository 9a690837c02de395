"""HiFT, the vocoder (Li et al., 2023, arXiv:2309.09493), under the released parameter names, as one batched graph.

The network adds a harmonic source (see `export.hift_source`) to an up-sampling stack and ends in an inverse STFT. Here
every convolution is preceded by a mask, so that padding to the right changes nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from export.convolution import Conv, ConvTranspose
from export.hift_source import F0Predictor, HarmonicSource
from export.resblock import ResBlock
from export.stft import InverseStft, Stft
from export.tiling import Tiling

LAST_SLOPE = 0.01  # of the activation before the last convolution; the others use the configured slope
MAX_MAGNITUDE = 100.0


@dataclass(frozen=True)
class HiftConfig:
    """Sizes of the vocoder; names as in `cosyvoice.yaml`."""

    in_channels: int
    base_channels: int
    nb_harmonics: int
    sampling_rate: int
    nsf_alpha: float
    nsf_sigma: float
    nsf_voiced_threshold: float
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    n_fft: int
    hop_len: int
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    source_resblock_kernel_sizes: tuple[int, ...]
    source_resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    lrelu_slope: float
    audio_limit: float
    f0_channels: int


class Hift(nn.Module):
    """Mel to waveform. Load the state dict, then call `fold`."""

    def __init__(self, config: HiftConfig):
        super().__init__()
        self.config = config
        rates = config.upsample_rates
        channels = [config.base_channels // 2**stage for stage in range(len(rates) + 1)]
        spectrum = config.n_fft + 2
        self.m_source = HarmonicSource(
            config.nb_harmonics,
            config.sampling_rate,
            math.prod(rates) * config.hop_len,
            config.nsf_alpha,
            config.nsf_sigma,
            config.nsf_voiced_threshold,
        )
        self.f0_predictor = F0Predictor(config.in_channels, config.f0_channels)
        self.conv_pre = Conv(config.in_channels, channels[0], 7, padding=3)
        self.ups = nn.ModuleList(
            ConvTranspose(channels[stage], channels[stage + 1], kernel, rate, padding=(kernel - rate) // 2)
            for stage, (rate, kernel) in enumerate(zip(rates, config.upsample_kernel_sizes, strict=True))
        )
        # The source's spectrum comes at the last stage's rate and is brought down to the rate of each stage.
        self.source_downs = nn.ModuleList()
        for stage in range(len(rates)):
            stride = math.prod(rates[stage + 1 :])
            kernel, padding = (2 * stride, stride // 2) if stride > 1 else (1, 0)
            self.source_downs.append(Conv(spectrum, channels[stage + 1], kernel, stride, padding))
        self.source_resblocks = nn.ModuleList(
            ResBlock(channels[stage + 1], kernel, dilations)
            for stage, (kernel, dilations) in enumerate(
                zip(config.source_resblock_kernel_sizes, config.source_resblock_dilation_sizes, strict=True)
            )
        )
        self.kernels = len(config.resblock_kernel_sizes)
        self.resblocks = nn.ModuleList(
            ResBlock(width, kernel, dilations)
            for width in channels[1:]
            for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )
        blocks = [*self.source_resblocks, *self.resblocks]
        self.halo = max(block.reach for block in blocks if isinstance(block, ResBlock))
        self.conv_post = Conv(channels[-1], spectrum, 7, padding=3)
        self.stft = Stft(config.n_fft, config.hop_len)
        self.istft = InverseStft(config.n_fft, config.hop_len)

    def fold(self) -> None:
        """Rewrite the weights for `forward`; call once, after loading."""
        for module in self.modules():
            if isinstance(module, ResBlock):
                module.fold()

    def forward(
        self,
        mel: torch.Tensor,
        mel_length: torch.Tensor,
        noise: torch.Tensor,
        cached_source: torch.Tensor,
        cached_source_length: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Synthesise a batch; S is 480 T at the released sizes.

        Args:
            mel: float32 [B, mel, T].
            mel_length: int32 [B, 1], frames that count; the rest is padding and changes nothing.
            noise: float32 [B, S], standard normal, of the source.
            cached_source: float32 [B, K].
            cached_source_length: int32 [B, 1], samples of `cached_source` that replace the start of the source.

        Returns:
            waveform float32 [B, S] in [-limit, limit], waveform_length int32 [B, 1], source float32 [B, S] and f0
            float32 [B, T] in Hz; zeros past the length.
        """
        hop = self.m_source.hop
        frames = mel.shape[2]
        length = torch.minimum(mel_length, torch.full_like(mel_length, frames)).maximum(torch.zeros_like(mel_length))
        sample_mask = _mask(length * hop, noise.shape[1])[:, 0, 0]

        f0 = self.f0_predictor(mel[:, :, None], _mask(length, frames))
        source = self.m_source(f0, noise)
        source = _with_cache(source, cached_source, cached_source_length) * sample_mask
        waveform = self.decode(mel, length, source)
        return waveform * sample_mask, length * hop, source, f0

    def decode(self, mel: torch.Tensor, length: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Synthesise from mel [B, mel, T], valid frames int32 [B, 1] and source [B, S]: waveform [B, S]."""
        x, mask = self.spectrum(mel, length, source)
        bins = self.config.n_fft // 2 + 1
        magnitude = torch.exp(x[:, :bins]).clamp(max=MAX_MAGNITUDE)
        phase = torch.sin(x[:, bins:])
        waveform = self.istft(magnitude, phase, mask)
        return waveform.clamp(-self.config.audio_limit, self.config.audio_limit)

    def spectrum(
        self, mel: torch.Tensor, length: torch.Tensor, source: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict log magnitudes and raw phases [B, 2 * bins, 1, F], and the mask [B, 1, 1, F] of frames that count."""
        slope, rates = self.config.lrelu_slope, self.config.upsample_rates
        # The source's STFT has a frame at both ends: one more than the last stage makes of the mel.
        harmonics = self.stft(source, length * self.m_source.hop)
        last_mask = _mask(length * math.prod(rates) + 1, harmonics.shape[3])
        harmonics = harmonics * last_mask

        mask = _mask(length, mel.shape[2])
        x = self.conv_pre(mel[:, :, None] * mask)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, slope) * mask)
            if stage == len(rates) - 1:
                x = torch.cat([x[..., 1:2], x], dim=-1)  # reflection by one frame
                mask = last_mask
            else:
                mask = _mask(length * math.prod(rates[: stage + 1]), x.shape[3])
            tiling = Tiling(x.shape[3], x.shape[1], self.halo)
            tiled_mask = tiling.split(mask)
            source_tiles = tiling.split(self.source_downs[stage](harmonics))
            x = x + tiling.join(self.source_resblocks[stage](source_tiles, tiled_mask))
            tiles = tiling.split(x)
            first, *others = self.resblocks[stage * self.kernels : (stage + 1) * self.kernels]
            total = first(tiles, tiled_mask)
            for block in others:
                total = total + block(tiles, tiled_mask)
            x = tiling.join(total / self.kernels)
        return self.conv_post(F.leaky_relu(x, LAST_SLOPE) * mask), mask


def _with_cache(source: torch.Tensor, cached: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Put the first `length` [B, 1] samples of `cached` [B, K] in place of those of `source` [B, S]."""
    padded = torch.cat([cached, torch.zeros_like(source)], dim=1)[:, : source.shape[1]]
    usable = torch.minimum(length, torch.full_like(length, cached.shape[1]))
    keep = _mask(usable, source.shape[1])[:, 0, 0]
    return padded * keep + source * (1 - keep)


def _mask(length: torch.Tensor, size: int) -> torch.Tensor:
    """Make a float mask [B, 1, 1, size] of the positions below `length` [B, 1]."""
    position = torch.arange(size, device=length.device, dtype=torch.int32)
    return (position[None] < length).to(torch.float32)[:, None, None]
