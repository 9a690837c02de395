"""Mandarin sentences: templates filled by jieba's dictionary, and runs of frequent words for coverage."""

import itertools
import random
import re
from importlib import resources

import wordfreq
from pypinyin import Style, lazy_pinyin

from training.corpus.words import sections

CHARACTERS = 1500
WORDS = {"noun": ("n", 700), "verb": ("v", 400), "adjective": ("a", 200)}
RUN = 2500


class MandarinSentences:
    """An endless supply; the same generator gives the same sentences."""

    def __init__(self, generator: random.Random):
        self._random = generator
        common = set(characters())
        frequent = [word for word in wordfreq.top_n_list("zh", 4 * RUN) if set(word) <= common]
        kinds = _parts_of_speech()
        self._run = [word for word in frequent if len(word) > 1][:RUN]
        self._words = sections("mandarin.txt") | {
            slot: [word for word in frequent if kinds.get(word) == kind and len(word) == 2][:count]
            for slot, (kind, count) in WORDS.items()
        }

    def next(self) -> str:
        """Return one sentence, of about one to six seconds."""
        if self._random.random() < 0.3:
            words = self._random.sample(self._run, self._random.randint(2, 6))
            middle = "，" if len(words) > 3 and self._random.random() < 0.5 else ""
            return "".join([*words[:2], middle, *words[2:], self._random.choice("。。？")])
        return re.sub(
            r"\{(\w+)\}",
            lambda match: self._random.choice(self._words[match[1]]),
            self._random.choice(self._words["sentence"]),
        )


def characters() -> list[str]:
    """Return the most frequent characters, by the words they are in; those of the templates come first."""
    fixed = "".join(itertools.chain(*sections("mandarin.txt").values()))
    words = wordfreq.top_n_list("zh", 20_000)
    ranked = dict.fromkeys(character for character in [*fixed, *"".join(words)] if "\u4e00" <= character <= "\u9fff")
    return list(ranked)[:CHARACTERS]


def pinyin(text: str) -> str:
    """Return what espeak-ng's pinyin voice reads: syllables with tone digits, and the marks that make pauses."""
    marks = str.maketrans("，。？！", ",.?!")
    syllables = lazy_pinyin(text, style=Style.TONE3, neutral_tone_with_five=True)
    return " ".join(syllables).translate(marks).replace(" ,", ",").replace(" .", ".").replace(" ?", "?")


def spoken(text: str) -> str:
    """Return the characters alone."""
    return "".join(character for character in text if "\u4e00" <= character <= "\u9fff")


def _parts_of_speech() -> dict[str, str]:
    kinds = {}
    with resources.files("jieba").joinpath("dict.txt").open(encoding="utf-8") as lines:
        for line in lines:
            word, _, kind = line.split()
            kinds[word] = kind
    return kinds
