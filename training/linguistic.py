"""The linguistic tokenizer: a small SANM encoder that names phones, and centroids of what it then knows."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from export.demo.tokenizer import LINGUISTIC_CODES, MELS, STACK, STRIDE
from export.linguistic_features import CHUNK, LinguisticFeatures
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

    def __init__(self, phones: int, features: LinguisticFeatures, shift: Tensor, scale: Tensor):
        super().__init__()
        inputs = len(shift)
        self.features = features
        self.shift = nn.Buffer(shift)
        self.scale = nn.Buffer(scale)
        longest = int(LONGEST_SECONDS / FRAME_SECONDS) // 4 * 4 + 4
        self.encoder = SanmEncoder(inputs, WIDTH, HEADS, UNITS, BLOCKS, KERNEL, longest=longest)
        self.classifier = nn.Linear(WIDTH, len(OFFSETS) * phones)

    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode clips float32 [B, N] of `lengths` int64 [B, 1]: float32 [B, T, width] and frames int64 [B, 1]."""
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            features, counts = self.features(audio, lengths, torch.ones(len(audio), 1))
        return self.encoder((features + self.shift) * self.scale, counts), counts


Batch = tuple[Tensor, Tensor, Tensor]


def run(corpus: Corpus, folder: Path, device: torch.device, effort: float = 1.0) -> None:
    """Train the encoder and cluster its output; leaves `linguistic.pt` in `folder`."""
    clips = corpus.training()
    inputs = MELS * STACK
    zeros, ones = np.zeros(inputs, dtype=np.float32), np.ones(inputs, dtype=np.float32)
    front = LinguisticFeatures(MELS, STACK, STRIDE, zeros, ones).to(device)
    network = PhoneEncoder(len(corpus.phones), front, *normalisation(front, corpus, clips)).to(device)

    def draw(step: int) -> Batch:
        generator = np.random.default_rng(step)
        batch = [clips[index] for index in generator.integers(len(clips), size=BATCH)]
        audio, lengths = padded([heard(corpus, clip, generator) for clip in batch])
        frames = CHUNK * (audio.shape[1] // network.features.chunk_samples + 1)
        return audio, lengths, torch.from_numpy(_labels(corpus, batch, frames))

    def loss(batch: Batch, _step: int) -> dict[str, Tensor]:
        audio, lengths, labels = (value.to(device) for value in batch)
        encoded, counts = network(audio, lengths)
        present = torch.arange(encoded.shape[1], device=device) < counts
        logits = network.classifier(encoded[present]).unflatten(1, (len(OFFSETS), -1))
        return {"phone": F.cross_entropy(logits.flatten(0, 1), labels[present].flatten())}

    train(network, draw, loss, SCHEDULE.scaled(effort), folder, "linguistic", device)
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


def heard(corpus: Corpus, clip: Clip, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a clip float32 [N] at 16 kHz and full level, some with noise."""
    speech = corpus.speech(clip)
    if generator.random() < NOISY:
        speech = noise.add(generator, speech, TOKEN_RATE, generator.uniform(3, 25))
    return speech / max(np.abs(speech).max(), 1e-3) * np.float32(0.999)


def _labels(corpus: Corpus, batch: list[Clip], frames: int) -> NDArray[np.int64]:
    """Return the phones around each frame, int64 [B, frames, offsets]."""
    times = np.arange(frames)[:, None] * FRAME_SECONDS + FRAME_CENTRE + np.array(OFFSETS)
    return np.stack([corpus.labels(clip, times) for clip in batch])


def normalisation(front: LinguisticFeatures, corpus: Corpus, clips: list[Clip]) -> tuple[Tensor, Tensor]:
    """Return the shift and the scale, float32 [features] each, that make what `front` gives of clips even."""
    generator = np.random.default_rng(0)
    chosen = [clips[index] for index in generator.integers(len(clips), size=64)]
    device = front.shift.device
    audio, lengths = (value.to(device) for value in padded([heard(corpus, clip, generator) for clip in chosen]))
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
