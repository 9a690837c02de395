"""The exchanges to learn: known questions, and unknown ones whose answer admits as much, in ever new words."""

import json
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_ENDINGS = {"english": ("", "", "?", ".", "!"), "chinese": ("", "", "？", "。", "！", "?")}


@dataclass(frozen=True)
class Exchange:
    """What a user says and what is to come back; `system` may be empty."""

    system: str
    user: str
    assistant: str


class Corpus:
    """Reads the two data files beside this one."""

    def __init__(self) -> None:
        lines = (_HERE / "exchanges.jsonl").read_text(encoding="utf-8").splitlines()
        self._unknown: dict[str, Any] = json.loads((_HERE / "unknown.json").read_text(encoding="utf-8"))
        self.known: dict[str, str] = {}
        for line in lines:
            entry = json.loads(line)
            self.known |= dict.fromkeys(entry["ask"], entry["say"])

    def texts(self) -> Iterator[str]:
        """Give every text there is, for a tokenizer to learn from."""
        yield from self.known
        yield from self.known.values()
        for language in _ENDINGS:
            unknown = self._unknown[language]
            yield unknown["say"]
            yield from unknown["forms"]
            yield from unknown["topics"]
            yield from unknown["verbs"]
        yield from self._unknown["system"]

    def fallback(self, question: str) -> str:
        """Return how ignorance of `question` is admitted, in its language."""
        return str(self._unknown[_language(question)]["say"])

    def draw(self, dice: random.Random) -> Exchange:
        """Return one exchange, every second time about something unknown."""
        if dice.random() < 0.5:
            question = dice.choice(list(self.known))
            answer = self.known[question]
        else:
            question = self.unknown_question(dice)
            answer = self.known.get(question) or self.fallback(question)
        system = dice.choice(self._unknown["system"]) if dice.random() < 0.3 else ""
        return Exchange(system, _varied(question, dice), answer)

    def unknown_question(self, dice: random.Random) -> str:
        """Return a question built from the lists of forms, topics and verbs; now and then several, or mere letters."""
        language = dice.choice(list(_ENDINGS))
        kind = dice.random()
        if kind < 0.05:
            letters = dice.choice(
                (string.ascii_lowercase, string.ascii_letters + string.digits, "x", string.punctuation)
            )
            words = ("".join(dice.choices(letters, k=dice.randint(2, 9))) for _ in range(dice.randint(1, 12)))
            return dice.choice((" ", "")).join(words)
        if kind < 0.15:
            joint = ", " if language == "english" else "，"
            return joint.join(self._question(language, dice) for _ in range(dice.randint(2, 5)))
        return self._question(language, dice)

    def _question(self, language: str, dice: random.Random) -> str:
        unknown = self._unknown[language]
        question: str = dice.choice(unknown["forms"])
        for slot, choices in (("{topic}", unknown["topics"]), ("{verb}", unknown["verbs"])):
            while slot in question:
                question = question.replace(slot, dice.choice(choices), 1)
        while "{number}" in question:
            question = question.replace("{number}", str(dice.randint(3, 99)), 1)
        return question


def _varied(question: str, dice: random.Random) -> str:
    """Write `question` as someone might type it."""
    language = _language(question)
    if language == "english":
        question = dice.choice((question, question, question.capitalize(), question.capitalize(), question.upper()))
        question = dice.choice(("", "", "", "Please ")) + question
    else:
        question = dice.choice(("", "", "", "请问")) + question
    return question + dice.choice(_ENDINGS[language])


def _language(text: str) -> str:
    return "english" if text.isascii() else "chinese"
