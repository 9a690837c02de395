"""The speaker encoder: CAM++ learns to tell the voices apart, whatever they say and however they say it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.demo.campplus import EMBEDDING, CamPlus, CamPlusSizes
from export.speaker_encoder import SpeakerFeatures
from python_backend.voice.clip import TOKEN_RATE
from training import noise
from training.dataset import Corpus
from training.loop import Schedule, train

SIZES = CamPlusSizes(head=8, width=32, growth=8, blocks=(3, 4, 3))
SCHEDULE = Schedule(steps=400, rate=2e-3, warmup=50)
BATCH, SECONDS = 32, 2.0
MARGIN, SCALE = 0.2, 20.0
NOISY = 0.3


class SpeakerClassifier(nn.Module):
    """The encoder and a direction for each voice; the cosines decide, with a margin (Wang et al., 2018)."""

    def __init__(self, voices: int):
        super().__init__()
        self.encoder = CamPlus(SIZES)
        self.features = SpeakerFeatures()
        self.directions = nn.Parameter(torch.randn(voices, EMBEDDING))

    def forward(self, audio: Tensor, voices: Tensor) -> Tensor:
        """Return the loss of clips float32 [B, N] of voices int64 [B]."""
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            fbank = self.features(audio)
        cosine = F.normalize(self.encoder(fbank).float(), dim=1) @ F.normalize(self.directions, dim=1).T
        return F.cross_entropy(SCALE * (cosine - MARGIN * F.one_hot(voices, cosine.shape[1])), voices)


def run(corpus: Corpus, folder: Path, device: torch.device, effort: float = 1.0) -> None:
    """Train the encoder; leaves `speaker.pt` in `folder`."""
    # A whisper sounds alike in every voice but the one that always whispers.
    clips = [clip for clip in corpus.training() if clip.manner != "whisper" and clip.seconds > SECONDS]
    network = SpeakerClassifier(len(corpus.voices)).to(device)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng(step)
        batch = [clips[index] for index in generator.integers(len(clips), size=BATCH)]
        size = int(SECONDS * TOKEN_RATE)
        rows = []
        for clip in batch:
            speech = corpus.speech(clip)
            first = generator.integers(len(speech) - size + 1)
            speech = speech[first : first + size] * generator.uniform(0.2, 1.5)
            if generator.random() < NOISY:
                speech = noise.add(generator, speech.astype(np.float32), TOKEN_RATE, generator.uniform(5, 25))
            rows.append(speech.astype(np.float32))
        return torch.from_numpy(np.stack(rows)), torch.tensor([corpus.voices.index(clip.voice) for clip in batch])

    def loss(batch: tuple[Tensor, Tensor], _step: int) -> dict[str, Tensor]:
        audio, voices = (value.to(device) for value in batch)
        return {"voice": network(audio, voices)}

    train(network, draw, loss, SCHEDULE.scaled(effort), folder, "speaker", device)
    torch.save(network.encoder.state_dict(), folder / "speaker.pt")
