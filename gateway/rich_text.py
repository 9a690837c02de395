"""Words with signs for what else is heard, as FunASR writes SenseVoice's answers."""

from collections.abc import Iterable

from client.recognition import Segment

EMOTIONS = {"happy": "😊", "sad": "😔", "angry": "😡", "fearful": "😰", "disgusted": "🤢", "surprised": "😮"}
EVENTS = {"bgm": "🎼", "applause": "👏", "laughter": "😀", "cry": "😭", "sneeze": "🤧", "cough": "🤧"}


class RichText:
    """Makes the text segment by segment; all that it gives, joined, is the text.

    A sign for events stands before the words, where they are others than before; one for an emotion after them, where
    another emotion follows or the text ends.
    """

    def __init__(self) -> None:
        self._emotion = ""
        self._events: tuple[str, ...] = ()

    def add(self, segment: Segment) -> str:
        """Return what `segment` adds to the text."""
        text = segment.text
        if segment.events != self._events:
            text = _signs(EVENTS, segment.events) + text.lstrip() if segment.events else text
        if segment.emotion != self._emotion:
            text = _signs(EMOTIONS, [self._emotion]) + text
        self._emotion, self._events = segment.emotion, segment.events
        return text

    def close(self) -> str:
        """Return the end of the text."""
        return _signs(EMOTIONS, [self._emotion])


def rich_text(segments: Iterable[Segment]) -> str:
    """Return the whole text."""
    text = RichText()
    return ("".join(map(text.add, segments)) + text.close()).strip()


def _signs(known: dict[str, str], names: Iterable[str]) -> str:
    return "".join(dict.fromkeys(known.get(name, "") for name in names))
