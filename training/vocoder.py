"""HiFT: mel to waveform, by spectral losses at several resolutions."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.hift import Hift, HiftConfig
from python_backend.voice.mel import FLOOR as FLOOR_OF_MEL
from python_backend.voice.mel import MEL_RATE as RATE
from training.dataset import Corpus
from training.loop import Schedule, train
from training.mels import Mels

CONFIG = HiftConfig(
    in_channels=80,
    base_channels=96,
    nb_harmonics=8,
    sampling_rate=RATE,
    nsf_alpha=0.1,
    nsf_sigma=0.003,
    nsf_voiced_threshold=10,
    upsample_rates=(8, 5, 3),
    upsample_kernel_sizes=(16, 11, 7),
    n_fft=16,
    hop_len=4,
    resblock_kernel_sizes=(3, 7, 11),
    resblock_dilation_sizes=((1, 3, 5),) * 3,
    source_resblock_kernel_sizes=(7, 7, 11),
    source_resblock_dilation_sizes=((1, 3, 5),) * 3,
    lrelu_slope=0.1,
    audio_limit=0.99,
    f0_channels=96,
)
SCHEDULE = Schedule(steps=8000, rate=1e-3, betas=(0.8, 0.99), weight_decay=0.0)
BATCH, FRAMES = 8, 32
GAIN = (0.3, 1.5)
HOP = 480
RESOLUTIONS = (320, 640, 1280, 2560)
FLOOR = 1e-3  # below it a bin's logarithm counts for nothing

Batch = tuple[Tensor, Tensor, Tensor]


class SpectralLoss(nn.Module):
    """Distance of spectra at several resolutions, of magnitudes and of their logarithms (Yamamoto et al., 2020)."""

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean over resolutions for waveforms float32 [B, N]."""
        losses = []
        for size in RESOLUTIONS:
            window = torch.hann_window(size, device=made.device)
            spectra = [torch.stft(x, size, size // 4, window=window, return_complex=True).abs() for x in (made, wanted)]
            convergence = (spectra[1] - spectra[0]).norm(dim=(1, 2)) / spectra[1].norm(dim=(1, 2)).clamp(min=0.1)
            logarithms = [(spectrum + FLOOR).log() for spectrum in spectra]
            losses.append(convergence.mean() + (logarithms[0] - logarithms[1]).abs().mean())
        return torch.stack(losses).mean()


def build() -> Hift:
    """Make a network to train: Snake's alpha stays at one, where the folded form and the plain one are the same."""
    network = Hift(CONFIG)
    for name, parameter in network.named_parameters():
        if name.endswith(".alpha"):
            parameter.requires_grad_(False)
    with torch.no_grad():
        network.f0_predictor.classifier.bias.fill_(1.0)
    return network


def run(corpus: Corpus, folder: Path, device: torch.device, effort: float = 1.0) -> None:
    """Train the vocoder; leaves `vocoder.pt` in `folder`."""
    clips = [clip for clip in corpus.training() if clip.length > (FRAMES + 2) * HOP]
    network = build().to(device)
    mels, spectral = Mels(corpus, folder), SpectralLoss()

    def draw(step: int) -> Batch:
        generator = np.random.default_rng(step)
        rows = []
        for index in generator.integers(len(clips), size=BATCH):
            gain = np.float32(generator.uniform(*GAIN))
            first = int(generator.integers(clips[index].length // HOP - FRAMES))
            part = slice(first, first + FRAMES)
            waveform = corpus.waveform(clips[index])[first * HOP : (first + FRAMES) * HOP] * gain
            mel = np.maximum(mels.mel(clips[index])[part] + np.log(gain), np.log(FLOOR_OF_MEL))
            rows.append((waveform, mel.T, mels.f0(clips[index])[part]))
        wanted, mel, f0 = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
        return wanted, mel, f0

    def loss(batch: Batch, step: int) -> dict[str, Tensor]:
        wanted, mel, f0 = (value.to(device) for value in batch)
        return losses(network, spectral, wanted, mel, f0, step)

    train(network, draw, loss, SCHEDULE.scaled(effort), folder, "vocoder", device)
    torch.save(network.state_dict(), folder / "vocoder.pt")


def losses(
    network: Hift, spectral: SpectralLoss, wanted: Tensor, mel: Tensor, f0: Tensor, step: int
) -> dict[str, Tensor]:
    """Compare what the network makes of `mel` [B, 80, T] and the true `f0` [B, T] with `wanted` [B, 480 T]."""
    mask = torch.ones(len(mel), 1, 1, mel.shape[2], device=mel.device)
    predicted = network.f0_predictor(mel[:, :, None], mask).float()
    with torch.autocast(mel.device.type, enabled=False):
        generator = torch.Generator(device="cpu").manual_seed(step)
        noise = torch.randn(wanted.shape, generator=generator, device="cpu").to(mel.device)
        source = network.m_source(f0, noise)
    lengths = torch.full((len(mel), 1), mel.shape[2], dtype=torch.int32, device=mel.device)
    x, spectrum_mask = network.spectrum(mel, lengths, source)
    with torch.autocast(mel.device.type, enabled=False):
        x = x.float()
        bins = CONFIG.n_fft // 2 + 1
        made = network.istft(torch.exp(x[:, :bins]).clamp(max=100.0), torch.sin(x[:, bins:]), spectrum_mask)
        return {"spectral": spectral(made, wanted), "f0": (predicted - f0).abs().mean() / 50}
