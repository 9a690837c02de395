"""The streams that are open and the prompts that are ready, both bounded."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_backend.errors import InvalidInput, NotFound, Unavailable
from python_backend.token2wav.streaming.flow import FlowStream, Prompt


@dataclass
class _Open:
    stream: FlowStream
    nbytes: int
    used: float


class StreamStore:
    """Open streams by id.

    Args:
        max_streams: streams open at once.
        max_bytes: of their states together.
        idle_seconds: a stream that is not used for so long is closed.
        clock: seconds.
    """

    def __init__(
        self, max_streams: int, max_bytes: int, idle_seconds: float, clock: Callable[[], float] = time.monotonic
    ):
        self._max_streams = max_streams
        self._max_bytes = max_bytes
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._open: dict[str, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def nbytes(self) -> int:
        """Bytes of the open streams' states."""
        return sum(entry.nbytes for entry in self._open.values())

    def add(self, stream_id: str, nbytes: int, make: Callable[[], FlowStream]) -> None:
        """Open the stream that `make` gives, if there is room for its `nbytes`.

        Raises:
            InvalidInput: the id is in use.
            Unavailable: too many streams are open, or too little room is left.
        """
        if stream_id in self._open:
            raise InvalidInput("stream_id", f"{stream_id!r} is open already")
        if len(self._open) >= self._max_streams:
            raise Unavailable(f"queue full: {len(self._open)} streams are open, the limit is {self._max_streams}")
        if self.nbytes + nbytes > self._max_bytes:
            taken = f"open streams take {self.nbytes} bytes, this one {nbytes}"
            raise Unavailable(f"queue full: {taken}, the limit is {self._max_bytes}")
        self._open[stream_id] = _Open(make(), nbytes, self._clock())

    def use(self, stream_id: str) -> FlowStream:
        """Return an open stream and count it as used now.

        Raises:
            NotFound: it is not open, or no longer.
        """
        entry = self._open.get(stream_id)
        if entry is None:
            raise NotFound(
                f"stream_id: no stream {stream_id!r}; it was never opened, has ended, or was not used for "
                f"{self._idle_seconds:g} s"
            )
        entry.used = self._clock()
        return entry.stream

    def close(self, stream_id: str) -> bool:
        """Free a stream's state; return whether it was open."""
        entry = self._open.pop(stream_id, None)
        if entry is not None:
            entry.stream.close()
        return entry is not None

    def close_idle(self) -> list[str]:
        """Close the streams that nobody has used for too long; return their ids."""
        oldest = self._clock() - self._idle_seconds
        idle = [stream_id for stream_id, entry in self._open.items() if entry.used < oldest]
        for stream_id in idle:
            self.close(stream_id)
        return idle


class PromptCache:
    """Prompts that were set up, by all that decides them; the least recently used leave first.

    Args:
        max_bytes: of the prompts kept.
    """

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, Prompt] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of the prompts kept."""
        return sum(prompt.nbytes for prompt in self._kept.values())

    def get(self, key: bytes, prepare: Callable[[], Prompt]) -> Prompt:
        """Return the prompt of `key`, from `prepare` if it is not kept."""
        prompt = self._kept.pop(key, None) or prepare()
        self._kept[key] = prompt
        while self.nbytes > self._max_bytes:
            self._kept.popitem(last=False)
        return prompt


def prompt_key(
    prompt_tokens: NDArray[np.int32],
    prompt_mel: NDArray[np.float32],
    speaker_embedding: NDArray[np.float32],
    steps: int,
    guidance: float,
) -> bytes:
    """Return a digest of a voice's content and of the solver settings."""
    digest = hashlib.sha256(repr((prompt_mel.shape, len(prompt_tokens), steps, guidance)).encode())
    for array in (prompt_tokens, prompt_mel, speaker_embedding):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
