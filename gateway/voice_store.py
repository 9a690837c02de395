"""Voices that users bring: a folder each on disk, named by its content, whole or not there at all."""

import json
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import soundfile

from client.speech import Clip
from gateway.voices import Voice

_ID = re.compile(r"voice_[0-9a-f]{24}")
_SETTLED_NS = 1_000_000_000
_RECORDING, _CARD = "recording.wav", "voice.json"


class StoreFull(Exception):
    """The store holds as many voices as it may."""


@dataclass(frozen=True)
class NewVoice:
    """What a user says about a recording."""

    name: str
    prompt_text: str
    consent: str
    description: str = ""
    locale: str = ""
    gender: str = ""


class VoiceStore:
    """The voices under one folder. Its methods read and write files: call `add` and `remove` in a thread.

    The id comes from name, words and sound, so bringing the same voice again changes nothing. A voice is written beside
    the store and moved into it in one step; several processes may share a folder.

    Args:
        folder: made when the first voice comes.
        capacity: most voices kept.
    """

    def __init__(self, folder: Path, capacity: int):
        self._folder = folder
        self._capacity = capacity
        self._known: dict[str, Voice] = {}
        self._seen_at = -1

    def __iter__(self) -> Iterator[Voice]:
        return iter(sorted(self._current().values(), key=lambda voice: (voice.created_at, voice.id)))

    def get(self, voice_id: str) -> Voice | None:
        """Return the voice with this id, if there is one."""
        return self._current().get(voice_id)

    def add(self, new: NewVoice, clip: Clip) -> Voice:
        """Keep a voice.

        Raises:
            StoreFull: there is no room.
        """
        digest = sha256(json.dumps([new.name, new.prompt_text, clip.sample_rate], ensure_ascii=False).encode())
        digest.update(clip.waveform.tobytes())
        voice_id = f"voice_{digest.hexdigest()[:24]}"
        known = self.get(voice_id)
        if known is not None:
            return known
        if len(self._current()) >= self._capacity:
            raise StoreFull(f"{self._capacity} voices are kept at most")
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".new-") as scratch:
            made = Path(scratch) / voice_id
            made.mkdir()
            soundfile.write(made / _RECORDING, clip.waveform, clip.sample_rate, subtype="FLOAT")
            card = {"id": voice_id, "created_at": int(time.time()), **vars(new)}
            (made / _CARD).write_text(json.dumps(card, ensure_ascii=False, indent=2), encoding="utf-8")
            try:
                made.rename(self._folder / voice_id)
            except OSError:
                if not (self._folder / voice_id / _CARD).exists():  # else another process was faster
                    raise
        self._seen_at = -1
        return self._current()[voice_id]

    def remove(self, voice_id: str) -> bool:
        """Forget a voice; tell whether there was one."""
        if self.get(voice_id) is None:
            return False
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".old-") as scratch:
            (self._folder / voice_id).rename(Path(scratch) / voice_id)
        self._seen_at = -1
        return True

    def _current(self) -> dict[str, Voice]:
        """Return what the folder holds, read again when it has changed."""
        try:
            changed_at = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        # A folder that changed a moment ago may change again without its time moving on.
        if changed_at != self._seen_at or time.time_ns() - changed_at < _SETTLED_NS:
            names = [entry.name for entry in self._folder.iterdir() if _ID.fullmatch(entry.name)]
            voices = {name: self._known.get(name) or _load(self._folder / name) for name in names}
            self._known = {name: voice for name, voice in voices.items() if voice is not None}
            self._seen_at = changed_at
        return self._known


def _load(folder: Path) -> Voice | None:
    try:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:  # removed meanwhile
        return None
    card.pop("consent")
    return Voice(**card, path=folder / _RECORDING)
