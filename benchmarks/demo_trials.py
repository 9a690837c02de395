"""What the demo checkpoint is asked: sentences kept from training, in voices that never said them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from python_backend.voice.mel import MEL_RATE as RATE
from training import noise
from training.__main__ import AMOUNTS
from training.corpus.build import render
from training.corpus.espeak import Espeak
from training.corpus.takes import Take, takes
from training.corpus.voices import MANNERS, NEUTRAL, VOICES, Language
from training.tokens import paused_waveform

Waveform = NDArray[np.float32]
EDITS: tuple[tuple[str, str], ...] = (
    ("speed", "faster"),
    ("speed", "slower"),
    ("speed", "more faster"),
    ("speed", "more slower"),
    ("vad", ""),
    ("denoise", ""),
    ("style", "whisper"),
)
NOISE_DECIBELS = 8.0


@dataclass(frozen=True)
class Clip:
    """Speech of espeak-ng and its take."""

    take: Take
    waveform: Waveform


@dataclass(frozen=True)
class Clone:
    """A prompt, and the same voice saying what is asked for, for comparison only."""

    prompt: Clip
    wanted: Clip


@dataclass(frozen=True)
class Edit:
    """A clip to edit and what for; `heard` is what the system gets: noisy, or with pauses."""

    mode: str
    tag: str
    source: Clip
    heard: Waveform


class Trials:
    """Makes trials; the same seed gives the same."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        self._espeak = Espeak()
        everything = [take for voice in VOICES for language in Language for take in takes(voice, language, AMOUNTS, 0)]
        learnt = {take.text for take in everything if not take.held_out}
        self._held_out = [take for take in everything if take.held_out and take.manner == NEUTRAL]
        self._new = [take for take in self._held_out if take.text not in learnt]

    def clones(self, language: Language, count: int) -> Iterator[Clone]:
        """Yield `count` trials, the voices in turn."""
        for number in range(count):
            voice = VOICES[number % len(VOICES)]
            texts = [take for take in self._new if take.language == language and take.voice != voice]
            wanted = replace(self._random.choice(texts), voice=voice)
            yield Clone(self._say(self._prompt(language, voice.name)), self._say(wanted))

    def edits(self, count: int) -> Iterator[Edit]:
        """Yield `count` trials of each edit."""
        for mode, tag in EDITS:
            for number in range(count):
                voice, language = VOICES[number % (len(VOICES) - 1)], list(Language)[number % 2]
                texts = [take for take in self._new if take.language == language]
                source = self._say(replace(self._random.choice(texts), voice=voice))
                heard = source.waveform
                if mode == "vad":
                    heard = paused_waveform(heard, RATE, self._noise)
                elif mode == "denoise":
                    heard = noise.add(self._noise, heard, RATE, NOISE_DECIBELS)
                yield Edit(mode, tag, source, heard)

    def centroids(self) -> dict[str, list[Waveform]]:
        """Return a few clips of every voice, of both languages."""
        return {
            voice.name: [self._say(self._prompt(language, voice.name)).waveform for language in Language for _ in "123"]
            for voice in VOICES
        }

    def _prompt(self, language: Language, voice: str) -> Take:
        return self._random.choice(
            [take for take in self._held_out if take.language == language and take.voice.name == voice]
        )

    def _say(self, take: Take) -> Clip:
        return Clip(take, render(self._espeak, take)[0].astype(np.float32) / 32767)


def expected_rate(tag: str) -> float:
    """Return the factor on the speaking rate that a speed tag was trained on."""
    return next(manner.rate for manner in MANNERS if manner.name == tag)
