"""How Step-Audio-EditX's `stepvocoder` streams, where it differs from here: to check the arithmetic against it.

Besides these parts, parity means the first generated group as the prompt's look-ahead (`StreamingFlow.prepare`) and
limits that never forget in the encoder and take a last chunk of any size.
"""

import numpy as np
from numpy.typing import NDArray

from python_backend.token2wav.streaming.chunks import CHUNK_GROUPS, LOOKAHEAD_GROUPS, Chunk
from python_backend.token2wav.tokens import GROUP


class RecordedNoise:
    """A recording read at the length of the estimator's memory, and so, once that is full, the same part again.

    Args:
        recording: float32 [frames, mel].
        limit: most frames that the memory holds: prompt and context.
    """

    def __init__(self, recording: NDArray[np.float32], limit: int):
        self._recording = recording
        self._limit = limit

    def __call__(self, first: int, frames: int) -> NDArray[np.float32]:
        """Return float32 [frames, mel]."""
        first = min(first, self._limit)
        return self._recording[first : first + frames]


class OneChunkPerCall:
    """Sends at most one chunk per call, none on the call that completes the first group, and all that is left at last.

    A stream that ends on the call that completes its first group makes no sound.
    """

    def __init__(self) -> None:
        self._waiting = np.empty(0, dtype=np.int32)
        self._sent = 0
        self._set_up = False

    def push(self, tokens: NDArray[np.int32], last: bool) -> list[Chunk]:
        """Take tokens int32 [n] and return what the call sends."""
        self._waiting = np.concatenate([self._waiting, tokens])
        if not self._set_up:
            self._set_up = len(self._waiting) >= LOOKAHEAD_GROUPS * GROUP
            return []
        if last:
            return [Chunk(self._waiting, last=True)]
        groups = CHUNK_GROUPS[min(self._sent, len(CHUNK_GROUPS) - 1)]
        size = (groups + LOOKAHEAD_GROUPS) * GROUP
        if len(self._waiting) < size:
            return []
        chunk = Chunk(self._waiting[:size], last=False)
        self._waiting = self._waiting[groups * GROUP :]
        self._sent += 1
        return [chunk]


def hamming_halves(samples: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the two halves of a Hamming window, [samples] each, as cross-fade weights; they sum to 1.08."""
    window = np.hamming(2 * samples).astype(np.float32)
    return window[:samples], window[samples:]
