"""HiFT, the vocoder (Li et al., 2023, arXiv:2309.09493), under the released parameter names, as one batched graph.

The network adds a harmonic source (see `export.hift_source`) to an up-sampling stack and ends in an inverse STFT. Here
every convolution is preceded by a mask, so that padding to the right changes nothing.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from export.hift_source import F0Predictor, HarmonicSource
from export.stft import InverseStft, Stft

LAST_SLOPE = 0.01  # of the activation before the last convolution; the others use the configured slope
MAX_MAGNITUDE = 100.0
MIN_ALPHA = 1e-6


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


class Snake(nn.Module):
    """Holds alpha, [C]; the activation x + sin²(alpha x) / alpha (Ziyin et al., 2020) is applied by `ResBlock`."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))


class ResBlock(nn.Module):
    """Residual pairs of dilated and plain convolution with Snake in front of each.

    `fold` moves every multiplication by alpha and 1 / alpha into the neighbouring convolutions, which leaves
    y + sin(y) * sin(y): the masks then cost no more than the folded multiplications did.
    """

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()

        def conv(dilation: int) -> nn.Conv1d:
            return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    @torch.no_grad()
    def fold(self) -> None:
        """Move alpha into the weights; call once, after loading.

        An alpha nearer to zero than 1e-6 counts as that: the activation is the identity there to float precision.
        """
        layers = zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)
        for first, conv1, second, conv2 in layers:
            for snake in (first, second):
                sign = torch.where(snake.alpha < 0, -1.0, 1.0)
                snake.alpha.copy_(sign * snake.alpha.abs().clamp(min=MIN_ALPHA))
            conv1.weight.mul_(second.alpha[:, None, None]).div_(first.alpha[:, None])
            conv1.bias.mul_(second.alpha)
            conv2.weight.div_(second.alpha[:, None])

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map [B, C, T] to the same; what `mask` [B, 1, T] zeroes is ignored, and meaningless in the result."""
        for snake, conv1, conv2 in zip(self.activations1, self.convs1, self.convs2, strict=True):
            y = conv1(_folded_snake(x * snake.alpha[:, None]) * mask)
            x = x + conv2(_folded_snake(y) * mask)
        return x


def _folded_snake(y: torch.Tensor) -> torch.Tensor:
    sine = torch.sin(y)
    return y + sine * sine


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
            _product(rates) * config.hop_len,
            config.nsf_alpha,
            config.nsf_sigma,
            config.nsf_voiced_threshold,
        )
        self.f0_predictor = F0Predictor(config.in_channels, config.f0_channels)
        self.conv_pre = nn.Conv1d(config.in_channels, channels[0], 7, padding=3)
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(channels[stage], channels[stage + 1], kernel, rate, padding=(kernel - rate) // 2)
            for stage, (rate, kernel) in enumerate(zip(rates, config.upsample_kernel_sizes, strict=True))
        )
        # The source's spectrum comes at the last stage's rate and is brought down to the rate of each stage.
        self.source_downs = nn.ModuleList()
        for stage in range(len(rates)):
            stride = _product(rates[stage + 1 :])
            kernel, padding = (2 * stride, stride // 2) if stride > 1 else (1, 0)
            self.source_downs.append(nn.Conv1d(spectrum, channels[stage + 1], kernel, stride, padding))
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
        self.conv_post = nn.Conv1d(channels[-1], spectrum, 7, padding=3)
        self.stft = Stft(config.n_fft, config.hop_len)
        self.istft = InverseStft(config.n_fft, config.hop_len)

    def fold(self) -> None:
        """Rewrite the weights for `forward`; call once, after loading."""
        for block in [*self.resblocks, *self.source_resblocks]:
            block.fold()

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
        length = torch.minimum(mel_length, torch.full_like(mel_length, frames)).clamp(min=0)
        mel_mask = _mask(length, frames)
        sample_mask = _mask(length * hop, noise.shape[1])[:, 0]

        f0 = self.f0_predictor(mel, mel_mask)
        source = self.m_source(f0, noise)
        source = _with_cache(source, cached_source, cached_source_length) * sample_mask
        waveform = self.decode(mel, length, source)
        return waveform * sample_mask, length * hop, source, f0

    def decode(self, mel: torch.Tensor, length: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Synthesise from mel [B, mel, T], valid frames int32 [B, 1] and source [B, S]: waveform [B, S]."""
        slope, rates = self.config.lrelu_slope, self.config.upsample_rates
        # One more frame than 120 per mel frame: the STFT of the source has frames at both ends.
        spectrum = self.stft(source, length * self.m_source.hop)
        last_mask = _mask(length * _product(rates) + 1, spectrum.shape[2])
        spectrum = spectrum * last_mask

        mask = _mask(length, mel.shape[2])
        x = self.conv_pre(mel * mask)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, slope) * mask)
            if stage == len(rates) - 1:
                x = F.pad(x, (1, 0), mode="reflect")
                mask = last_mask
            else:
                mask = _mask(length * _product(rates[: stage + 1]), x.shape[2])
            x = x + self.source_resblocks[stage](self.source_downs[stage](spectrum), mask)
            blocks = self.resblocks[stage * self.kernels : (stage + 1) * self.kernels]
            x = sum(block(x, mask) for block in blocks) / self.kernels
        x = self.conv_post(F.leaky_relu(x, LAST_SLOPE) * mask)

        bins = self.config.n_fft // 2 + 1
        magnitude = torch.exp(x[:, :bins]).clamp(max=MAX_MAGNITUDE)
        phase = torch.sin(x[:, bins:])
        waveform = self.istft(magnitude, phase, mask)
        return waveform.clamp(-self.config.audio_limit, self.config.audio_limit)


def _with_cache(source: torch.Tensor, cached: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Put the first `length` [B, 1] samples of `cached` [B, K] in place of those of `source` [B, S]."""
    padded = torch.cat([cached, torch.zeros_like(source)], dim=1)[:, : source.shape[1]]
    usable = torch.minimum(length, torch.full_like(length, cached.shape[1]))
    keep = _mask(usable, source.shape[1])[:, 0]
    return padded * keep + source * (1 - keep)


def _mask(length: torch.Tensor, size: int | torch.Tensor) -> torch.Tensor:
    """Make a float mask [B, 1, size] of the positions below `length` [B, 1]."""
    position = torch.arange(size, device=length.device, dtype=torch.int32)
    return (position[None] < length).to(torch.float32)[:, None]


def _product(values: tuple[int, ...]) -> int:
    product = 1
    for value in values:
        product *= value
    return product
