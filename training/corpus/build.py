"""Writing the corpus: one shard per voice and language, each complete or absent, so that a run can be resumed."""

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from rich.progress import Progress

from python_backend.voice.clip import KEPT_AFTER, KEPT_BEFORE, TOKEN_RATE, speech_bounds
from python_backend.voice.mel import MEL_RATE as RATE
from training.corpus.espeak import Espeak, Phone
from training.corpus.takes import Amounts, Take, takes
from training.corpus.voices import VOICES, Language, Voice

PEAK = 0.6


def build(folder: Path, amounts: Amounts, seed: int, workers: int) -> None:
    """Write every shard that is missing under `folder`.

    A shard is `<voice>-<language>.npy`, int16 [N] at 24 kHz, and `<voice>-<language>.jsonl`, one take per line with its
    place in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = [(folder, voice, language, amounts, seed) for voice in VOICES for language in Language]
    wanted = [shard for shard in shards if not _index(folder, shard[1], shard[2]).exists()]
    with Progress() as progress, multiprocessing.get_context("spawn").Pool(workers) as pool:
        task = progress.add_task("speech", total=len(shards), completed=len(shards) - len(wanted))
        for _ in pool.imap_unordered(_write_shard, wanted):
            progress.advance(task)


def _index(folder: Path, voice: Voice, language: Language) -> Path:
    return folder / f"{voice.name}-{language}.jsonl"


def _write_shard(shard: tuple[Path, Voice, Language, Amounts, int]) -> None:
    folder, voice, language, amounts, seed = shard
    index = _index(folder, voice, language)
    espeak = Espeak()
    waveforms, lines, start = [], [], 0
    for take in takes(voice, language, amounts, seed):
        waveform, phones = render(espeak, take)
        waveforms.append(waveform)
        lines.append(json.dumps(_entry(take, start, len(waveform), phones), ensure_ascii=False))
        start += len(waveform)
    # The index comes last and at once: a shard with an index is whole.
    np.save(index.with_suffix(".npy"), np.concatenate(waveforms))
    part = index.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(index)


def render(espeak: Espeak, take: Take) -> tuple[NDArray[np.int16], list[Phone]]:
    """Speak a take: int16 [N] at 24 kHz with the silence cut as a voice clip's is, and its phones."""
    speech = espeak.say(*take.instructions())
    raw = speech.waveform.astype(np.float32) / 32768
    raw *= PEAK / np.abs(raw).max()
    begin, end = speech_bounds(soxr.resample(raw, espeak.rate, TOKEN_RATE))
    waveform = soxr.resample(raw, espeak.rate, RATE)
    scale = RATE / TOKEN_RATE
    first, last = round((begin - KEPT_BEFORE) * scale), round((end + KEPT_AFTER) * scale)
    padded = np.pad(waveform, (max(-first, 0), max(last - len(waveform), 0)))
    cut = padded[max(first, 0) :][: last - first]
    shift = first * 1000 / RATE
    phones = [Phone(phone.symbol, round(phone.start - shift)) for phone in _sounds(speech.phones)]
    return (cut * 32767).round().astype(np.int16), phones


def _sounds(phones: list[Phone]) -> Iterator[Phone]:
    """Leave out the marks where espeak-ng changes its language."""
    return (phone for phone in phones if not phone.symbol.startswith("("))


def _entry(take: Take, start: int, length: int, phones: list[Phone]) -> dict[str, object]:
    entry = asdict(take)
    return {
        **{key: entry[key] for key in ("text", "spoken", "sentence", "held_out", "language")},
        "voice": take.voice.name,
        "manner": take.manner.name,
        "start": start,
        "length": length,
        "phones": [[phone.symbol, phone.start] for phone in phones],
    }
