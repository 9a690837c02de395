"""Reading the corpus: takes with their waveform and what is spoken when."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from python_backend.voice.clip import TOKEN_RATE
from python_backend.voice.mel import MEL_RATE as RATE


@dataclass(frozen=True)
class Clip:
    """One take.

    Attributes:
        shard: file stem of its voice and language.
        start, length: samples at 24 kHz within the shard.
        phones: IPA symbols, the empty one for pauses.
        phone_starts: when each begins, in milliseconds.
    """

    shard: str
    text: str
    spoken: str
    sentence: int
    held_out: bool
    language: str
    voice: str
    manner: str
    start: int
    length: int
    phones: tuple[str, ...]
    phone_starts: NDArray[np.int32]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.length / RATE


class Corpus:
    """All takes of a folder that `corpus.build` wrote; the sound stays on disk until it is asked for.

    Attributes:
        clips: in the order of the shards.
        phones: every symbol in use, the pause first, then by frequency.
    """

    def __init__(self, folder: Path, shards: list[str] | None = None):
        """Read all shards of `folder`, or those named."""
        self.clips: list[Clip] = []
        self._sound: dict[str, NDArray[np.int16]] = {}
        for index in sorted(folder.glob("*.jsonl")):
            if shards is not None and index.stem not in shards:
                continue
            self._sound[index.stem] = np.load(index.with_suffix(".npy"), mmap_mode="r")
            with index.open(encoding="utf-8") as lines:
                self.clips += [_clip(index.stem, json.loads(line)) for line in lines]
        counts: dict[str, int] = {}
        for clip in self.clips:
            for phone in clip.phones:
                counts[phone] = counts.get(phone, 0) + 1
        counts.pop("", None)
        self.phones = ["", *sorted(counts, key=lambda phone: (-counts[phone], phone))]

    @cached_property
    def voices(self) -> list[str]:
        """Names of all voices, in order."""
        return sorted({clip.voice for clip in self.clips})

    def training(self) -> list[Clip]:
        """Return the clips to learn from."""
        return [clip for clip in self.clips if not clip.held_out]

    def held_out(self) -> list[Clip]:
        """Return the clips to judge by."""
        return [clip for clip in self.clips if clip.held_out]

    def shard(self, name: str) -> list[Clip]:
        """Return the clips of one shard."""
        return self._by_shard[name]

    @cached_property
    def _by_shard(self) -> dict[str, list[Clip]]:
        shards: dict[str, list[Clip]] = {}
        for clip in self.clips:
            shards.setdefault(clip.shard, []).append(clip)
        return shards

    def waveform(self, clip: Clip) -> NDArray[np.float32]:
        """Return float32 [length] at 24 kHz."""
        sound = self._sound[clip.shard][clip.start : clip.start + clip.length]
        return sound.astype(np.float32) / 32767

    def speech(self, clip: Clip) -> NDArray[np.float32]:
        """Return float32 [N] at 16 kHz, as tokenizers take it."""
        return soxr.resample(self.waveform(clip), RATE, TOKEN_RATE)

    def labels(self, clip: Clip, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the phone at each of `times` (seconds): indices into `phones`."""
        names = np.array([0, *(self._phone_number[phone] for phone in clip.phones)])
        return names[np.searchsorted(clip.phone_starts, times * 1000, side="right")]

    @cached_property
    def _phone_number(self) -> dict[str, int]:
        return {phone: number for number, phone in enumerate(self.phones)}


def padded(waveforms: list[NDArray[np.float32]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack waveforms [N] with zeros behind: float32 [B, N] and lengths int64 [B, 1]."""
    size = max(map(len, waveforms))
    batch = np.zeros((len(waveforms), size), dtype=np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return torch.from_numpy(batch), torch.tensor([[len(waveform)] for waveform in waveforms])


def _clip(shard: str, entry: dict[str, Any]) -> Clip:
    symbols, starts = zip(*entry.pop("phones"), strict=True)
    return Clip(shard=shard, phones=symbols, phone_starts=np.array(starts, dtype=np.int32), **entry)
