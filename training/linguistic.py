"""The linguistic tokenizer: a small SANM encoder that names phones, and centroids of what it then knows."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from export.demo.tokenizer import LINGUISTIC_CODES, MELS, STACK, STRIDE
from export.linguistic_features import LinguisticFeatures
from export.linguistic_tokenizer import LONGEST_SECONDS
from export.sanm_encoder import SanmEncoder
from python_backend.voice.clip import TOKEN_RATE
from training import noise
from training.dataset import Clip, Corpus, padded
from training.kmeans import kmeans
from training.loop import Schedule, train

WIDTH, HEADS, UNITS, BLOCKS, KERNEL = 128, 4, 320, 4, 11
FRAME_SECONDS, FRAME_CENTRE = 0.06, 0.0125
OFFSETS = (-0.02, 0.0, 0.02)  # a frame lasts as long as three short phones
SCHEDULE = Schedule(steps=800, rate=2e-3)
BATCH = 24
NOISY = 0.3
CLUSTER_CLIPS = 3000


class PhoneEncoder(nn.Module):
    """The encoder with a classifier for the phones around each frame, which is dropped after training."""

    def __init__(self, phones: int, shift: Tensor, scale: Tensor):
        super().__init__()
        inputs = MELS * STACK
        self.shift = nn.Buffer(shift)
        self.scale = nn.Buffer(scale)
        longest = int(LONGEST_SECONDS / FRAME_SECONDS) // 4 * 4 + 4
        self.encoder = SanmEncoder(inputs, WIDTH, HEADS, UNITS, BLOCKS, KERNEL, longest=longest)
        self.classifier = nn.Linear(WIDTH, len(OFFSETS) * phones)
        zeros, ones = np.zeros(inputs, dtype=np.float32), np.ones(inputs, dtype=np.float32)
        self.features = LinguisticFeatures(MELS, STACK, STRIDE, zeros, ones)

    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode clips float32 [B, N] of `lengths` int64 [B, 1]: float32 [B, T, width] and frames int64 [B, 1]."""
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            features, counts = self.features(audio, lengths, torch.ones(len(audio), 1))
        return self.encoder((features + self.shift) * self.scale, counts), counts


def run(corpus: Corpus, folder: Path, device: torch.device) -> None:
    """Train the encoder and cluster its output; leaves `linguistic.pt` in `folder`."""
    clips = corpus.training()
    network = PhoneEncoder(len(corpus.phones), *_normalisation(corpus, clips)).to(device)

    def loss(step: int) -> dict[str, Tensor]:
        generator = np.random.default_rng(step)
        batch = [clips[index] for index in generator.integers(len(clips), size=BATCH)]
        speech = [_heard(corpus, clip, generator) for clip in batch]
        audio, lengths = (value.to(device) for value in padded(speech))
        encoded, counts = network(audio, lengths)
        logits = network.classifier(encoded).unflatten(2, (len(OFFSETS), -1))
        return {
            "phone": F.cross_entropy(logits.flatten(0, 2), _targets(corpus, batch, encoded.shape[1], counts).flatten())
        }

    train(network, loss, SCHEDULE, folder, "linguistic", device)
    with torch.inference_mode():
        vectors = _encode_all(corpus, network, clips[:: max(1, len(clips) // CLUSTER_CLIPS)], device)
        centroids = kmeans(vectors, LINGUISTIC_CODES, iterations=15, seed=0)
    torch.save(
        {
            "encoder": network.encoder.state_dict(),
            "shift": network.shift,
            "scale": network.scale,
            "centroids": centroids,
            "classifier": network.classifier.state_dict(),
        },
        folder / "linguistic.pt",
    )


def _heard(corpus: Corpus, clip: Clip, generator: np.random.Generator) -> NDArray[np.float32]:
    speech = corpus.speech(clip)
    if generator.random() < NOISY:
        speech = noise.add(generator, speech, TOKEN_RATE, generator.uniform(3, 25))
    return speech / max(np.abs(speech).max(), 1e-3) * np.float32(0.999)


def _targets(corpus: Corpus, batch: list[Clip], frames: int, counts: Tensor) -> Tensor:
    """Return the phones around each frame, int64 [B, frames, offsets]; -100 past a clip's end."""
    times = np.arange(frames)[:, None] * FRAME_SECONDS + FRAME_CENTRE + np.array(OFFSETS)
    targets = torch.from_numpy(np.stack([corpus.labels(clip, times) for clip in batch]))
    past = torch.arange(frames)[None, :, None] >= counts.cpu()[:, :, None]
    return targets.masked_fill(past, -100).to(counts.device)


def _normalisation(corpus: Corpus, clips: list[Clip]) -> tuple[Tensor, Tensor]:
    inputs = MELS * STACK
    zeros, ones = np.zeros(inputs, dtype=np.float32), np.ones(inputs, dtype=np.float32)
    front = LinguisticFeatures(MELS, STACK, STRIDE, zeros, ones)
    generator = np.random.default_rng(0)
    chosen = [clips[index] for index in generator.integers(len(clips), size=64)]
    audio, lengths = padded([_heard(corpus, clip, generator) for clip in chosen])
    features, counts = front(audio, lengths, torch.ones(len(audio), 1))
    kept = features[torch.arange(features.shape[1]) < counts]
    return -kept.mean(dim=0), 1 / kept.std(dim=0)


def _encode_all(corpus: Corpus, network: PhoneEncoder, clips: list[Clip], device: torch.device) -> Tensor:
    vectors = []
    for first in range(0, len(clips), BATCH):
        speech = [corpus.speech(clip) for clip in clips[first : first + BATCH]]
        audio, lengths = (value.to(device) for value in padded([item / np.abs(item).max() for item in speech]))
        encoded, counts = network(audio, lengths)
        vectors.append(encoded[torch.arange(encoded.shape[1], device=device) < counts])
    return torch.cat(vectors).float()
