"""Tokens to text while they come, up to a stop text."""

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """Gives text as soon as it is certain: whole characters, and nothing that may be the start of a stop text.

    Args:
        tokenizer: decodes tokens.
        stops: the text ends before the first of these.
    """

    def __init__(self, tokenizer: Tokenizer, stops: tuple[str, ...]):
        self._tokenizer = tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, tokens: Iterable[int]) -> str:
        """Take further tokens and return the text that is certain by now; none after a stop text."""
        if self.stopped:
            return ""
        for token in tokens:
            self._held += self._decoder.step(self._tokenizer, token) or ""
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._give(min(found))
        return self._give(len(self._held) - self._doubtful())

    def finish(self) -> str:
        """Return what was held back."""
        return "" if self.stopped else self._give(len(self._held))

    def _give(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text

    def _doubtful(self) -> int:
        """Return how many characters at the end may be the start of a stop text."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
