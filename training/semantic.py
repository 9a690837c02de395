"""The semantic tokenizer: codes from which phones, pitch and loudness can be read, and with the voice the mel."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from export.demo.s3_tokenizer import CODES, S3Sizes, S3Tokenizer
from export.features import FRAME_SHIFT, WhisperLogMel
from python_backend.voice.clip import TOKEN_RATE
from training import noise, pitch
from training.dataset import Clip, Corpus, padded
from training.loop import Schedule, train
from training.mels import Mels

SIZES = S3Sizes(width=96, heads=4, blocks=2)
FRAME_SECONDS = 0.04
OFFSETS = (0.01, 0.03)  # two labels per code
PITCH_CLASSES = 24  # quarter octaves would be 12; class 0 is voiceless
SCHEDULE = Schedule(steps=1200, rate=1e-3)
BATCH = 20
NOISY = 0.3
DECAY = 0.97
COMMITMENT = 1.0
REVIVE_BELOW = 0.05
FRAMES_PER_CODE, MEL_FRAMES = 4, 2  # 100 Hz frames of what is heard, 50 Hz frames of the mel
HIDDEN = 192


class Quantizer(nn.Module):
    """A codebook of unit vectors that follows what is assigned to it (van den Oord et al., 2017, appendix A)."""

    codebook: Tensor
    sizes: Tensor
    sums: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("codebook", F.normalize(torch.randn(CODES, width), dim=1))
        self.register_buffer("sizes", torch.ones(CODES))
        self.register_buffer("sums", self.codebook.clone())

    def forward(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Quantize unit vectors [N, width]: the same with the codes' values, and the commitment loss."""
        x = x.float()
        codes = (x @ self.codebook.T).argmax(dim=1)
        if self.training:
            self._follow(x.detach(), codes, step)
        chosen = self.codebook[codes]
        return x + (chosen - x).detach(), F.mse_loss(x, chosen) * x.shape[1]

    @torch.no_grad()
    def _follow(self, x: Tensor, codes: Tensor, step: int) -> None:
        self.sizes.mul_(DECAY).add_(torch.bincount(codes, minlength=CODES), alpha=1 - DECAY)
        self.sums.mul_(DECAY).index_add_(0, codes, x, alpha=1 - DECAY)
        unused = torch.nonzero(self.sizes < REVIVE_BELOW)[:, 0]
        if len(unused) and step % 10 == 0:
            generator = torch.Generator(device="cpu").manual_seed(step)
            chosen = torch.randint(len(x), (len(unused),), generator=generator, device="cpu")
            fresh = x[chosen.to(x.device)]
            self.sums[unused] = fresh
            self.sizes[unused] = 1.0
        self.codebook.copy_(F.normalize(self.sums, dim=1))


class SemanticModel(nn.Module):
    """Encoder, codebook, and what is read from the codes."""

    def __init__(self, phones: int, voices: int):
        super().__init__()
        self.encoder = S3Tokenizer(SIZES)
        self.quantizer = Quantizer(SIZES.width)
        self.phone = nn.Linear(SIZES.width, len(OFFSETS) * phones)
        self.pitch = nn.Linear(SIZES.width, MEL_FRAMES * PITCH_CLASSES)
        self.voice = nn.Embedding(voices, SIZES.width)
        self.mel = nn.Sequential(
            nn.Conv1d(2 * SIZES.width, HIDDEN, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(HIDDEN, HIDDEN, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(HIDDEN, MEL_FRAMES * 80, 3, padding=1),
        )

    def reconstruct(self, quantized: Tensor, voices: Tensor) -> Tensor:
        """Return the mel [B, 2 T, 80] of codes' values [B, T, width] in given voices int64 [B]."""
        voice = self.voice(voices)[:, None].expand(-1, quantized.shape[1], -1)
        mel = self.mel(torch.cat([quantized, voice], dim=2).transpose(1, 2)).transpose(1, 2)
        return mel.unflatten(2, (MEL_FRAMES, 80)).flatten(1, 2)


@dataclass(frozen=True)
class Batch:
    """Clips and what their codes shall tell, on the CPU; T codes, 2 T mel frames.

    Attributes:
        audio: float32 [B, N] at 16 kHz, what is heard.
        counts: int64 [B], frames of the log-mel that the encoder takes.
        phones: int64 [B, T, 2].
        f0: float32 [B, 2 T], Hz.
        mel: float32 [B, 2 T, 80], without noise.
        voices: int64 [B].
    """

    audio: Tensor
    counts: Tensor
    phones: Tensor
    f0: Tensor
    mel: Tensor
    voices: Tensor


def run(corpus: Corpus, folder: Path, device: torch.device, effort: float = 1.0) -> None:
    """Train encoder and codebook; leaves `semantic.pt` in `folder`."""
    clips, mels = corpus.training(), Mels(corpus, folder)
    network = SemanticModel(len(corpus.phones), len(corpus.voices)).to(device)
    features = WhisperLogMel().to(device)

    def draw(step: int) -> Batch:
        generator = np.random.default_rng(step)
        batch = [clips[index] for index in generator.integers(len(clips), size=BATCH)]
        return _batch(corpus, mels, batch, generator)

    def loss(batch: Batch, step: int) -> dict[str, Tensor]:
        return losses(network, features, batch, step, device)

    train(network, draw, loss, SCHEDULE.scaled(effort), folder, "semantic", device)
    network.encoder.codebook.copy_(network.quantizer.codebook.T)
    torch.save(network.state_dict(), folder / "semantic.pt")


def _batch(corpus: Corpus, mels: Mels, batch: list[Clip], generator: np.random.Generator) -> Batch:
    heard = []
    for clip in batch:
        speech = corpus.speech(clip)
        if generator.random() < NOISY:
            speech = noise.add(generator, speech, TOKEN_RATE, generator.uniform(3, 25))
        heard.append(speech / max(np.abs(speech).max(), 1e-3) * np.float32(0.999))
    audio, _ = padded(heard)
    frames = -(-(audio.shape[1] // FRAME_SHIFT) // FRAMES_PER_CODE)
    times = np.arange(frames)[:, None] * FRAME_SECONDS + np.array(OFFSETS)
    return Batch(
        audio=audio,
        counts=torch.tensor([len(speech) // FRAME_SHIFT for speech in heard]),
        phones=torch.from_numpy(np.stack([corpus.labels(clip, times) for clip in batch])),
        f0=_framed([mels.f0(clip) for clip in batch], frames * MEL_FRAMES),
        mel=_framed([mels.mel(clip) for clip in batch], frames * MEL_FRAMES),
        voices=torch.tensor([corpus.voices.index(clip.voice) for clip in batch]),
    )


def losses(
    network: SemanticModel, features: WhisperLogMel, batch: Batch, step: int, device: torch.device
) -> dict[str, Tensor]:
    """Compare what the codes tell with the truth."""
    counts, phones, f0, target, voices = (
        value.to(device) for value in (batch.counts, batch.phones, batch.f0, batch.mel, batch.voices)
    )
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        log_mels = torch.cat([features(row[None].to(device)) for row in batch.audio])
    encoded = network.encoder.encode(log_mels, counts)
    valid = torch.arange(encoded.shape[1], device=device) < (counts // FRAMES_PER_CODE)[:, None]
    quantized, commitment = network.quantizer(encoded[valid], step)
    spread = torch.zeros_like(encoded, dtype=quantized.dtype)
    spread[valid] = quantized
    predicted = network.reconstruct(spread, voices)
    within = valid.repeat_interleave(MEL_FRAMES, dim=1)
    return {
        "phone": F.cross_entropy(
            network.phone(quantized).unflatten(1, (len(OFFSETS), -1)).flatten(0, 1), phones[valid].flatten()
        ),
        "pitch": 0.5
        * F.cross_entropy(
            network.pitch(quantized).unflatten(1, (MEL_FRAMES, -1)).flatten(0, 1),
            pitch.classes(f0, PITCH_CLASSES).unflatten(1, (-1, MEL_FRAMES))[valid].flatten(),
        ),
        "mel": (predicted - target)[within].abs().mean(),
        "commitment": COMMITMENT * commitment,
    }


def _framed(rows: list[NDArray[np.float32]], frames: int) -> Tensor:
    """Stack rows [T, …] to [B, frames, …], cut or filled with each row's last value."""
    return torch.from_numpy(np.stack([row[np.minimum(np.arange(frames), len(row) - 1)] for row in rows]))
