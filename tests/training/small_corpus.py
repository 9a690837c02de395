"""A corpus of buzzes in the recipe's form, with tokens that nobody heard."""

import json
from pathlib import Path

import numpy as np

from training import mels
from training.dataset import Corpus

RATE = 24_000
GROUPS = 12
SENTENCES, MANNERS = 4, ("neutral", "faster", "whisper", "happy")


def write(folder: Path) -> tuple[Corpus, Path]:
    """Write two voices in two languages; return the corpus and the folder of its mels and tokens."""
    corpus, work = folder / "corpus", folder / "work"
    corpus.mkdir()
    generator = np.random.default_rng(0)
    for number, voice in enumerate(("anna", "bert")):
        for language, text, phones in (("en", "the cat sat", "kætsæt"), ("zh", "\u4f60\u597d\u5417", "niχauma")):
            _shard(corpus, f"{voice}-{language}", (voice, language, text, phones), 100.0 * (number + 1))
    work.mkdir()
    for index in sorted(corpus.glob("*.jsonl")):
        count = SENTENCES * len(MANNERS)
        arrays = {}
        for version in ("clean", "noisy", "paused"):
            rows = [_tokens(generator, GROUPS) for _ in range(count)]
            arrays |= {version: np.concatenate(rows), f"{version}_lengths": np.array([len(row) for row in rows])}
        voices = {name: generator.standard_normal((count, 192)) for name in ("embeddings", "noisy_embeddings")}
        np.savez(work / f"{index.stem}.tokens.npz", **arrays, **voices)
    mels.run(corpus, work, workers=1)
    return Corpus(corpus), work


def _tokens(generator: np.random.Generator, groups: int) -> np.ndarray:
    linguistic, semantic = generator.integers(1024, size=(groups, 2)), generator.integers(1024, 5120, size=(groups, 3))
    return np.concatenate([linguistic, semantic], axis=1).reshape(-1).astype(np.int32)


def _shard(folder: Path, name: str, kind: tuple[str, str, str, str], hertz: float) -> None:
    voice, language, text, phones = kind
    length = RATE * GROUPS * 12 // 100 + 1000
    time = np.arange(length) / RATE
    lines, sound = [], []
    for number in range(SENTENCES * len(MANNERS)):
        sound.append(16_000 * sum(np.sin(2 * np.pi * hertz * order * time) / order**2 for order in range(1, 6)))
        starts = np.linspace(0, 1400, len(phones)).astype(int).tolist()
        entry = {"text": text.capitalize() + ".", "spoken": text, "sentence": number // len(MANNERS)}
        entry |= {"held_out": number // len(MANNERS) == 0, "language": language, "voice": voice}
        entry |= {"manner": MANNERS[number % len(MANNERS)], "start": number * length, "length": length}
        lines.append(json.dumps({**entry, "phones": list(zip(phones, starts, strict=True))}))
    np.save(folder / f"{name}.npy", np.concatenate(sound).clip(-32767, 32767).astype(np.int16))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
