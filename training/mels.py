"""Mel and pitch of every clip, computed once: a step of training would spend more time on them than on its network."""

import functools
import multiprocessing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from python_backend.voice.mel import HOP, MELS, log_mel
from python_backend.voice.mel import MEL_RATE as RATE
from training import pitch
from training.dataset import Clip, Corpus


class Mels:
    """What `run` wrote; it stays on disk until it is asked for."""

    def __init__(self, corpus: Corpus, work: Path):
        """Open the files of all shards of `corpus`."""
        self._first: dict[tuple[str, int], int] = {}
        self._mel: dict[str, NDArray[np.float16]] = {}
        self._f0: dict[str, NDArray[np.float32]] = {}
        for shard in {clip.shard for clip in corpus.clips}:
            self._mel[shard], self._f0[shard] = (np.load(path, mmap_mode="r") for path in _paths(work, shard))
            first = 0
            for clip in corpus.shard(shard):
                self._first[shard, clip.start] = first
                first += clip.length // HOP

    def mel(self, clip: Clip) -> NDArray[np.float32]:
        """Return the log-mel [T, 80], 50 frames/s."""
        return self._mel[clip.shard][self._frames(clip)].astype(np.float32)

    def f0(self, clip: Clip) -> NDArray[np.float32]:
        """Return the pitch [T] in Hz, 0 where there is none."""
        return np.array(self._f0[clip.shard][self._frames(clip)])

    def _frames(self, clip: Clip) -> slice:
        first = self._first[clip.shard, clip.start]
        return slice(first, first + clip.length // HOP)


def run(folder: Path, work: Path, workers: int) -> None:
    """Write mel and pitch of every shard of the corpus in `folder` that has none in `work` yet."""
    work.mkdir(parents=True, exist_ok=True)
    shards = [path.stem for path in sorted(folder.glob("*.jsonl")) if not _paths(work, path.stem)[1].exists()]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in track(pool.imap_unordered(functools.partial(_write, folder, work), shards), "mels", len(shards)):
            pass


def _paths(work: Path, shard: str) -> tuple[Path, Path]:
    return work / f"{shard}.mel.npy", work / f"{shard}.f0.npy"


def _write(folder: Path, work: Path, shard: str) -> None:
    corpus = Corpus(folder, [shard])
    frames = sum(clip.length // HOP for clip in corpus.clips)
    mel, f0 = np.empty((frames, MELS), dtype=np.float16), np.empty(frames, dtype=np.float32)
    first = 0
    for clip in corpus.clips:
        waveform, last = corpus.waveform(clip), first + clip.length // HOP
        mel[first:last], f0[first:last] = log_mel(waveform).T, pitch.f0(waveform, RATE)
        first = last
    # The second file comes last and at once: a shard that has it is whole.
    paths = _paths(work, shard)
    np.save(paths[0], mel)
    part = paths[1].with_suffix(".part.npy")
    np.save(part, f0)
    part.replace(paths[1])
