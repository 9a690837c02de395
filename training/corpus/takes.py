"""One spoken sentence of the corpus, and which of them there are."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from training.corpus import english, mandarin
from training.corpus.voices import ESPEAK_VOICE, MANNERS, NEUTRAL, WHISPER, WORDS_PER_MINUTE, Language, Manner, Voice


@dataclass(frozen=True)
class Take:
    """A sentence in a voice and a manner.

    Attributes:
        text: as written.
        spoken: the words alone, as a recogniser should give them.
        sentence: number of the sentence within the voice and language; takes of one sentence differ in manner.
        held_out: kept from training.
    """

    text: str
    spoken: str
    sentence: int
    held_out: bool
    language: Language
    voice: Voice
    manner: Manner

    def instructions(self) -> tuple[str, str, float, int, int]:
        """Return text, voice, words per minute, pitch and range for `Espeak.say`."""
        variant = WHISPER[_sex(self.voice)] if self.manner.whispered else self.voice.variant
        read = mandarin.pinyin(self.text) if self.language is Language.mandarin else self.text
        return (
            read,
            f"{ESPEAK_VOICE[self.language]}+{variant}",
            WORDS_PER_MINUTE[self.language] * self.manner.rate,
            self.voice.pitch + self.manner.pitch,
            self.voice.span + self.manner.span,
        )


@dataclass(frozen=True)
class Amounts:
    """Sentences per voice and language.

    Attributes:
        plain: in the neutral manner only.
        edited: in every manner.
        held_out: of each of the two kinds, kept from training.
    """

    plain: int
    edited: int
    held_out: int


def takes(voice: Voice, language: Language, amounts: Amounts, seed: int) -> Iterator[Take]:
    """Yield every take of a voice in a language; the same seed gives the same takes."""
    generator = random.Random(f"{seed} {voice.name} {language}")  # noqa: S311 - sentences, no secrets
    is_english = language is Language.english
    sentences = english.EnglishSentences(generator) if is_english else mandarin.MandarinSentences(generator)
    spoken = english.spoken if is_english else mandarin.spoken
    for number in range(amounts.plain + amounts.edited):
        text = sentences.next()
        held_out = number < amounts.held_out or amounts.plain <= number < amounts.plain + amounts.held_out
        for manner in (NEUTRAL,) if number < amounts.plain else MANNERS:
            yield Take(text, spoken(text), number, held_out, language, voice, manner)


def _sex(voice: Voice) -> str:
    return "f" if voice.variant.startswith(("f", "whisperf")) else "m"
