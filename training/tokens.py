"""The corpus as tokens: every clip through the packed tokenizers, exactly as a server would hear it."""

import functools
import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.progress import track

from export import linguistic_tokenizer, semantic_tokenizer, speaker_encoder
from export.checkpoint import Checkpoint
from python_backend.voice.encoder import VoiceEncoder
from python_backend.voice.mel import MEL_RATE as RATE
from training import noise
from training.dataset import Corpus

NETWORKS = {
    "linguistic_tokenizer": linguistic_tokenizer.export,
    "semantic_tokenizer": semantic_tokenizer.export,
    "speaker_encoder": speaker_encoder.export,
}

VERSIONS = ("clean", "noisy", "paused")
PAUSED_EVERY = 3  # of the clips spoken in the neutral manner


@dataclass(frozen=True)
class Tokens:
    """What the clips of one shard became, in the order of the corpus.

    Attributes:
        clean, noisy, paused: int32 [5g] for each clip: as it is, with noise added, and with pauses put in (empty for
            most).
        embeddings, noisy_embeddings: float32 [clips, 192].
    """

    clean: list[NDArray[np.int32]]
    noisy: list[NDArray[np.int32]]
    paused: list[NDArray[np.int32]]
    embeddings: NDArray[np.float32]
    noisy_embeddings: NDArray[np.float32]


def noisy_waveform(corpus: Corpus, shard: str, number: int) -> NDArray[np.float32]:
    """Return clip `number` of a shard with its noise, float32 [N] at 24 kHz: always the same."""
    generator = np.random.default_rng([number, *shard.encode()])
    return noise.add(generator, corpus.waveform(corpus.shard(shard)[number]), RATE, generator.uniform(3, 20))


def paused_waveform(waveform: NDArray[np.float32], rate: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return `waveform` float32 [N] with one to three pauses of 0.4 to 1.2 s where it is quietest nearby."""
    frame = rate // 50
    level = np.square(waveform[: len(waveform) // frame * frame]).reshape(-1, frame).mean(axis=1)
    pieces, last = [], 0
    for part in range(count := int(generator.integers(1, 4))):
        first, end = (len(level) * (part + edge) // count for edge in (0.2, 0.8))
        if end <= first:
            continue
        cut = (int(first) + int(level[int(first) : int(end)].argmin())) * frame + frame // 2
        silence = np.zeros(int(rate * generator.uniform(0.4, 1.2)), dtype=np.float32)
        pieces += [waveform[last:cut], silence]
        last = cut
    return np.concatenate([*pieces, waveform[last:]])


def run(folder: Path, checkpoint: Path, work: Path, workers: int) -> None:
    """Tokenize every shard of the corpus in `folder` that has no tokens in `work` yet."""
    networks = work / "networks"
    opened = Checkpoint.open(checkpoint)
    for name, export in NETWORKS.items():
        (networks / name).mkdir(parents=True, exist_ok=True)
        export(opened, networks / name)
    shards = [path.stem for path in sorted(folder.glob("*.jsonl")) if not _path(work, path.stem).exists()]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        jobs = pool.imap_unordered(functools.partial(_tokenize, folder, networks, work), shards)
        for _ in track(jobs, "tokens", total=len(shards)):
            pass


def load(work: Path, shard: str) -> Tokens:
    """Read what `run` wrote for a shard."""
    with np.load(_path(work, shard)) as file:
        rows = {name: np.split(file[name], np.cumsum(file[f"{name}_lengths"])[:-1]) for name in VERSIONS}
        return Tokens(embeddings=file["embeddings"], noisy_embeddings=file["noisy_embeddings"], **rows)


def _path(work: Path, shard: str) -> Path:
    return work / f"{shard}.tokens.npz"


def _tokenize(folder: Path, networks: Path, work: Path, shard: str) -> None:
    corpus = Corpus(folder, [shard])
    encoder = VoiceEncoder(_caller(networks), threads=1)
    versions: dict[str, list[NDArray[np.int32]]] = {name: [] for name in VERSIONS}
    embeddings, noisy_embeddings = [], []
    for number, clip in enumerate(corpus.clips):
        waveform = corpus.waveform(clip)
        voice = encoder.encode(waveform, RATE)
        versions["clean"].append(voice.prompt_tokens)
        embeddings.append(voice.speaker_embedding)
        noisy = encoder.encode(noisy_waveform(corpus, shard, number), RATE)
        versions["noisy"].append(noisy.prompt_tokens)
        noisy_embeddings.append(noisy.speaker_embedding)
        is_paused = clip.manner == "neutral" and clip.sentence % PAUSED_EVERY == 0
        paused = paused_waveform(waveform, RATE, np.random.default_rng([number, *shard.encode()]))
        versions["paused"].append(encoder.encode(paused, RATE).prompt_tokens if is_paused else np.empty(0, np.int32))
    encoder.close()
    part = _path(work, shard).with_suffix(".part.npz")
    arrays = {name: np.concatenate(rows) for name, rows in versions.items()}
    lengths = {f"{name}_lengths": np.array(list(map(len, rows))) for name, rows in versions.items()}
    voices = {"embeddings": np.stack(embeddings), "noisy_embeddings": np.stack(noisy_embeddings)}
    np.savez(part, **voices, **arrays, **lengths)
    part.replace(_path(work, shard))


def _caller(networks: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        name: onnxruntime.InferenceSession(networks / name / "model.onnx", options, providers=["CPUExecutionProvider"])
        for name in NETWORKS
    }

    def call(model: str, inputs: Mapping[str, NDArray[Any]], outputs: list[str]) -> dict[str, NDArray[Any]]:
        return dict(zip(outputs, sessions[model].run(outputs, dict(inputs)), strict=True))

    return call
