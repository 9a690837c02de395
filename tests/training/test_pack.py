"""Untrained networks of the recipe's sizes, packed, exported and run: the whole way from training to sound."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.demo_machine import Demo, repository
from export.demo.campplus import CamPlus
from export.demo.signals import speech_like
from export.sanm_encoder import SanmEncoder
from python_backend.llm.request import SpeechRequest
from python_backend.token2wav.tokens import GROUP
from training import flow, linguistic, llm, pack, recognizer, semantic, speaker, vocoder

CPU = torch.device("cpu")
FEATURES = 560
TEXTS = ["the cat sat on the mat and said nothing", "where are the blue books", "six people came at nine"] * 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack untrained networks."""
    work, out = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    encoder = SanmEncoder(
        FEATURES,
        linguistic.WIDTH,
        linguistic.HEADS,
        linguistic.UNITS,
        linguistic.BLOCKS,
        linguistic.KERNEL,
        longest=4,
    )
    learnt = {
        "encoder": encoder.state_dict(),
        "shift": torch.full((FEATURES,), -12.0),
        "scale": torch.full((FEATURES,), 0.3),
        "centroids": torch.randn(1024, linguistic.WIDTH),
    }
    torch.save(learnt, work / "linguistic.pt")
    codes = semantic.SemanticModel(phones=5, voices=2)
    codes.encoder.codebook.copy_(codes.quantizer.codebook.T)
    torch.save(codes.state_dict(), work / "semantic.pt")
    torch.save(CamPlus(speaker.SIZES).state_dict(), work / "speaker.pt")
    torch.save(vocoder.build().state_dict(), work / "vocoder.pt")
    torch.save(flow.build().state_dict(), work / "flow.pt")
    torch.save(llm.build(llm.write_tokenizer(work / llm.TOKENIZER, TEXTS), CPU).state_dict(), work / "llm.pt")
    recognizer.write_tokens(work / recognizer.TOKENS, TEXTS)
    heard = recognizer.build(
        recognizer.Tokens(work / recognizer.TOKENS).size, learnt["shift"].numpy(), learnt["scale"].numpy()
    )
    torch.save(
        {"network": heard.state_dict(), "shift": learnt["shift"], "scale": learnt["scale"]}, work / "recognizer.pt"
    )
    pack.run(work, out, Console(quiet=True))
    return out


@pytest.fixture(scope="module")
def demo(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Export and load it."""
    return Demo(repository(checkpoint, tmp_path_factory.mktemp("models")), threads=1)


def test_it_fits_and_tells_what_it_is(checkpoint: Path) -> None:
    assert sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file()) < pack.LIMIT
    card = (checkpoint / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Not measured yet" in card
    assert "whisper" in card


def test_a_clip_and_a_text_become_sound_whole_and_streamed(demo: Demo) -> None:
    clip: NDArray[np.float32] = speech_like(1, 3)
    voice = demo.hear(clip, 16_000)
    request = SpeechRequest("clone", voice.prompt_tokens.tolist(), "where is it", "the cat sat", max_tokens=15 * GROUP)
    made = demo.speak(voice, request)
    assert len(made.waveform) == len(made.tokens) // GROUP * 6 * 480
    assert np.isfinite(made.waveform).all()
    streamed, seams = demo.stream(voice, made.tokens)
    assert len(streamed) == len(made.waveform)
    assert len(seams) == (0 if len(made.tokens) <= 5 * GROUP else 2)
    assert isinstance(demo.transcribe(clip, 16_000), str)


def test_too_large_a_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "tokenizers", lambda _work, out: (out / "large").write_bytes(bytes(pack.LIMIT)))
    monkeypatch.setattr(pack, "networks", lambda _work, _out: None)
    with pytest.raises(ValueError, match="more than 25000000"):
        pack.run(tmp_path, tmp_path, Console(quiet=True))
