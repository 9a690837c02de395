"""Clips that the server has encoded before, so that they need not be sent again."""

import hashlib
from collections import OrderedDict

import numpy as np

from client.speech import Clip

CAPACITY = 1000


class VoiceKeys:
    """The `voice_key` that the server gave for each clip, by the clip's content; the ones used last are kept."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, str] = OrderedDict()

    @staticmethod
    def name(clip: Clip) -> bytes:
        """Return what the other methods know the clip by."""
        digest = hashlib.sha256(b"%d %d " % (clip.sample_rate, len(clip.waveform)))
        digest.update(np.ascontiguousarray(clip.waveform).data)
        return digest.digest()

    def get(self, name: bytes) -> str | None:
        """Return the key, if there is one."""
        if name in self._keys:
            self._keys.move_to_end(name)
        return self._keys.get(name)

    def learn(self, name: bytes, key: str) -> None:
        """Remember a key; an empty one says that the server keeps nothing."""
        if key:
            self._keys[name] = key
            self._keys.move_to_end(name)
            if len(self._keys) > CAPACITY:
                self._keys.popitem(last=False)

    def forget(self, name: bytes) -> None:
        """Drop the key of one clip."""
        self._keys.pop(name, None)

    def clear(self) -> None:
        """Drop every key."""
        self._keys.clear()
