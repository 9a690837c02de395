"""When a chunk of tokens goes on to the flow, and how large it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_backend.token2wav.tokens import GROUP

# The chunks the flow was trained with, in groups of 0.12 s: 0.6, 0.96 and 1.92 s (Step-Audio-EditX's `stepvocoder`).
CHUNK_GROUPS = (5, 8, 16)
LOOKAHEAD_GROUPS = 1
# With more streams than this, all chunks but the first are of the largest size, which costs least per second.
BUSY_STREAMS = 4


def chunk_groups(sent: int, streams: int = 1) -> int:
    """Return how many groups the next chunk holds, look-ahead not counted.

    The first one is always the smallest: first audio waits for nothing but its own tokens.

    Args:
        sent: chunks that already went out in this stream.
        streams: streams that run at the moment.
    """
    if sent and streams > BUSY_STREAMS:
        return CHUNK_GROUPS[-1]
    return CHUNK_GROUPS[min(sent, len(CHUNK_GROUPS) - 1)]


@dataclass(frozen=True)
class Chunk:
    """Tokens of one call of the flow.

    Attributes:
        tokens: int32 [5g]; unless last, the final group is look-ahead and comes again in the next chunk.
        last: nothing comes after it.
    """

    tokens: NDArray[np.int32]
    last: bool

    @property
    def own_groups(self) -> int:
        """Groups that become sound with this chunk."""
        return len(self.tokens) // GROUP - (0 if self.last else LOOKAHEAD_GROUPS)


class Chunker:
    """Collects tokens as they come and cuts them into chunks.

    At least the look-ahead always stays behind, so a stream of one group or more ends with a chunk that is not empty.
    """

    def __init__(self) -> None:
        self._waiting = np.empty(0, dtype=np.int32)
        self._sent = 0

    def push(self, tokens: NDArray[np.int32], last: bool, streams: int = 1) -> list[Chunk]:
        """Take tokens and return every chunk that is now complete.

        Args:
            tokens: int32 [n], any n; a chunk holds whole groups, so a broken group waits for its rest.
            last: no token comes after these; all that waits leaves, an incomplete group included.
            streams: streams that run at the moment.
        """
        self._waiting = np.concatenate([self._waiting, tokens])
        chunks = []
        while (chunk := self._cut(chunk_groups(self._sent, streams))) is not None:
            chunks.append(chunk)
        if last and len(self._waiting):
            chunks.append(Chunk(self._waiting, last=True))
            self._waiting = self._waiting[:0]
        return chunks

    def _cut(self, groups: int) -> Chunk | None:
        size = (groups + LOOKAHEAD_GROUPS) * GROUP
        if len(self._waiting) < size:
            return None
        chunk = Chunk(self._waiting[:size], last=False)
        self._waiting = self._waiting[groups * GROUP :]
        self._sent += 1
        return chunk
