"""What the load is made of: a fixed set of texts, each for a built-in voice."""

import json
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from pathlib import Path

TEXTS = Path(__file__).with_name("texts.json")


@dataclass(frozen=True)
class Utterance:
    """A text, the built-in voice that says it, and how.

    Attributes:
        max_tokens: budget of audio tokens, 5 for 0.12 s; `None` for the model's own.
    """

    voice: str
    text: str
    seed: int = 0
    max_tokens: int | None = None


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Return the pairs of voice and text, in a fixed order that mixes languages and lengths."""
    return tuple((entry["voice"], entry["text"]) for entry in json.loads(TEXTS.read_text(encoding="utf-8")))


def utterances(count: int, max_tokens: int | None = None) -> list[Utterance]:
    """Return the first `count` utterances of the endless list, the same in every run; each has a seed of its own."""
    pairs = islice(cycle(texts()), count)
    return [Utterance(voice, text, seed, max_tokens) for seed, (voice, text) in enumerate(pairs)]


def one_of_each_voice(max_tokens: int | None = None) -> list[Utterance]:
    """Return one utterance for every voice in the list: what warms a server up for it."""
    first = dict(reversed(texts()))
    return [Utterance(voice, text, 0, max_tokens) for voice, text in sorted(first.items())]
