"""English sentences: templates filled from word lists, questions, numbers, and runs of frequent words for coverage."""

import random
import re

import wordfreq
from num2words import num2words

from training.corpus.words import sections

MINUTES = ("o'clock", "thirty", "fifteen", "in the morning")
COMMON = 4000


class EnglishSentences:
    """An endless supply; the same generator gives the same sentences."""

    def __init__(self, generator: random.Random):
        self._random = generator
        self._words = sections("english.txt")
        words = wordfreq.top_n_list("en", 2 * COMMON)
        self._common = [word for word in words if re.fullmatch(r"[a-z]{2,}", word)][:COMMON]

    def next(self) -> str:
        """Return one sentence, of about one to six seconds."""
        if self._random.random() < 0.3:
            return self._run_of_words()
        text = re.sub(r"\{(\w+)\}", lambda match: self._fill(match[1]), self._random.choice(self._words["sentence"]))
        return text[0].upper() + text[1:]

    def _fill(self, slot: str) -> str:
        choose = self._random.choice
        match slot:
            case "number":
                return num2words(self._random.choice((self._random.randint(2, 20), self._random.randint(21, 999))))
            case "year":
                return num2words(self._random.randint(1900, 2030), to="year").replace("-", " ")
            case "hour":
                return f"{num2words(self._random.randint(1, 12))} {choose(MINUTES)}"
        return choose(self._words[slot])

    def _run_of_words(self) -> str:
        # Half by rank, half even: frequent words often, rare ones at all.
        count = self._random.randint(3, 9)
        words = [self._common[int(COMMON * self._random.random() ** self._random.choice((1, 2)))] for _ in range(count)]
        if count > 5 and self._random.random() < 0.5:
            words[count // 2] += ","
        text = " ".join(words) + self._random.choice("..?!")
        return text[0].upper() + text[1:]


def spoken(text: str) -> str:
    """Return the words alone: lower case, single spaces, no marks but the apostrophe."""
    return " ".join(re.findall(r"[a-z']+", text.lower().replace("-", " ")))
