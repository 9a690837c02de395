"""The voices a request can name: built-in recordings, and those that users brought."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import soundfile

from client.speech import Clip

BUILT_IN = Path(__file__).parent / "assets" / "voices"
DEFAULT_VOICE = "fear_female"
_CLIPS_IN_MEMORY = 64


class UnknownVoice(LookupError):
    """No voice has this name."""


@dataclass(frozen=True)
class Voice:
    """One speaker: a recording and the words spoken in it.

    Attributes:
        path: a WAV whose content never changes.
        created_at: when a user brought it, Unix seconds; 0 for built-in voices.
    """

    id: str
    name: str
    description: str
    locale: str
    gender: str
    prompt_text: str
    path: Path
    created_at: int = 0

    @property
    def clip(self) -> Clip:
        """The recording. Reads a file: call it in a thread."""
        return _read(self.path)


@lru_cache(_CLIPS_IN_MEMORY)
def _read(path: Path) -> Clip:
    waveform, sample_rate = soundfile.read(path, dtype="float32")
    return Clip(waveform, sample_rate)


class VoiceShelf(Protocol):
    """Further voices by id."""

    def __iter__(self) -> Iterator[Voice]:
        """Go through all of them."""
        ...

    def get(self, voice_id: str) -> Voice | None:
        """Return the voice with this id, if there is one."""
        ...


class VoiceLibrary:
    """Voices by id.

    Args:
        folder: holds `voices.json`, a list of `Voice` fields without `path`, and `<id>.wav` for each.
        default: the voice of requests that name none.
        aliases: further names for built-in voices.
        shelf: voices that come and go.
    """

    def __init__(
        self,
        folder: Path = BUILT_IN,
        default: str = DEFAULT_VOICE,
        aliases: Mapping[str, str] = MappingProxyType({}),
        shelf: VoiceShelf | None = None,
    ):
        listed = json.loads((folder / "voices.json").read_text(encoding="utf-8"))
        self._voices = {entry["id"]: Voice(**entry, path=folder / f"{entry['id']}.wav") for entry in listed}
        self._aliases = aliases
        self._shelf = shelf
        self._default = self.find(default)
        for target in aliases.values():
            self.find(target)

    def __iter__(self) -> Iterator[Voice]:
        return chain(self._voices.values(), self._shelf or ())

    def find(self, name: str | None) -> Voice:
        """Return the voice called `name`, the default one for `None`.

        Raises:
            UnknownVoice: there is none; the message lists those there are.
        """
        if name is None:
            return self._default
        voice = self._voices.get(self._aliases.get(name, name))
        if voice is None and self._shelf is not None:
            voice = self._shelf.get(name)
        if voice is None:
            raise UnknownVoice(f"no voice is called {name!r}; there are {', '.join(self._voices)}")
        return voice
