"""The voices a request can name: built-in recordings and the names that stand for them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import soundfile

from client.speech import Clip

BUILT_IN = Path(__file__).parent / "assets" / "voices"
DEFAULT_VOICE = "fear_female"


class UnknownVoice(LookupError):
    """No voice has this name."""


@dataclass(frozen=True)
class Voice:
    """One speaker: a recording and the words spoken in it."""

    id: str
    name: str
    description: str
    locale: str
    gender: str
    prompt_text: str
    path: Path

    @cached_property
    def clip(self) -> Clip:
        """The recording, read once."""
        waveform, sample_rate = soundfile.read(self.path, dtype="float32")
        return Clip(waveform, sample_rate)


class VoiceLibrary:
    """Voices by id.

    Args:
        folder: holds `voices.json`, a list of `Voice` fields without `path`, and `<id>.wav` for each.
        default: the voice of requests that name none.
        aliases: further names.
    """

    def __init__(
        self, folder: Path = BUILT_IN, default: str = DEFAULT_VOICE, aliases: Mapping[str, str] = MappingProxyType({})
    ):
        listed = json.loads((folder / "voices.json").read_text(encoding="utf-8"))
        self._voices = {entry["id"]: Voice(**entry, path=folder / f"{entry['id']}.wav") for entry in listed}
        self._aliases = aliases
        self._default = self.find(default)
        for target in aliases.values():
            self.find(target)

    def __iter__(self) -> Iterator[Voice]:
        return iter(self._voices.values())

    def find(self, name: str | None) -> Voice:
        """Return the voice called `name`, the default one for `None`.

        Raises:
            UnknownVoice: there is none; the message lists those there are.
        """
        if name is None:
            return self._default
        voice = self._voices.get(self._aliases.get(name, name))
        if voice is None:
            raise UnknownVoice(f"no voice is called {name!r}; there are {', '.join(self._voices)}")
        return voice
