"""When a chunk of tokens goes on to the flow, and how large it is."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_backend.token2wav.tokens import GROUP

# The chunks the flow was trained with, in groups of 0.12 s: 0.6, 0.96 and 1.92 s (Step-Audio-EditX's `stepvocoder`).
CHUNK_GROUPS = (5, 8, 16)
LOOKAHEAD_GROUPS = 1
# With more streams than this, the largest chunk may follow the first: it costs least per second of sound.
BUSY_STREAMS = 4
# Of what the listener has in hand, this part may pass until the next chunk is there.
LEAD_SPENT = 0.8
# A late first sound is a delay, a late next one a gap: chunks that are needed sooner than this go before first ones.
FIRST_SOUND_LEAD = 0.2
# A listener who has waited so long in all hears gaps anyway: large chunks are the quickest way out.
LOST_SECONDS = 1.0


def trained_groups(sent: int) -> int:
    """Return how many groups the next chunk holds in training, look-ahead not counted, after `sent` chunks."""
    return CHUNK_GROUPS[min(sent, len(CHUNK_GROUPS) - 1)]


class Pacing:
    """Chooses the size of each chunk of a stream, so that its listener never waits.

    The first chunk is the smallest: first audio waits for nothing but its own tokens. Later ones are as large as can be
    made before the listener has heard all that was sent, going by how fast tokens came and chunks were rendered so far;
    so they grow as in training, and slower where many streams share the machine.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._first_token = self._last_token = 0.0
        self._groups = 0.0  # that came
        self._rendered = 0.0  # seconds per group in the last chunk
        self._sent = 0  # chunks
        self._playing = 0.0  # when the first chunk was sent
        self._seconds = 0.0  # of sound sent

    def came(self, groups: float) -> None:
        """Note that tokens of so many groups have come now."""
        self._last_token = self._clock()
        if not self._groups:
            self._first_token = self._last_token
        self._groups += groups

    def rendered(self, groups: int, took: float, seconds: float) -> None:
        """Note that a chunk of `groups` took so long to render and goes out now with so many `seconds` of sound."""
        if not self._sent:
            self._playing = self._clock()
        self._sent += 1
        self._rendered = took / groups
        self._seconds += seconds

    @property
    def lead(self) -> float:
        """Seconds until the listener has heard all that was sent; before the first chunk, what a listener forgives."""
        if not self._sent:
            return FIRST_SOUND_LEAD
        return self._seconds - (self._clock() - self._playing)

    def groups(self, waiting: int, streams: int = 1) -> int:
        """Return how many groups the next chunk should hold, look-ahead not counted.

        Args:
            waiting: groups that wait for it.
            streams: streams that run at the moment.
        """
        if not self._sent:
            return CHUNK_GROUPS[0]
        lead = self.lead
        if lead < -LOST_SECONDS:
            return CHUNK_GROUPS[-1]
        arrival = (self._last_token - self._first_token) / max(self._groups - 1, 1)
        largest = CHUNK_GROUPS[-1] if streams > BUSY_STREAMS else trained_groups(self._sent)

        def time_to(groups: int) -> float:
            return max(groups + LOOKAHEAD_GROUPS - waiting, 0) * arrival + groups * self._rendered

        in_time = [size for size in CHUNK_GROUPS if size <= largest and time_to(size) <= LEAD_SPENT * lead]
        return max(in_time, default=CHUNK_GROUPS[0])


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
        self._last = False
        self._sent = 0

    @property
    def waiting(self) -> int:
        """Whole groups that wait."""
        return len(self._waiting) // GROUP

    def add(self, tokens: NDArray[np.int32], last: bool) -> None:
        """Take tokens.

        Args:
            tokens: int32 [n], any n; a chunk holds whole groups, so a broken group waits for its rest.
            last: no token comes after these; all that waits leaves, an incomplete group included.
        """
        self._waiting = np.concatenate([self._waiting, tokens])
        self._last = last

    def take(self, groups: int) -> Chunk | None:
        """Return a chunk of so many groups, or at the end one of what is left; None if tokens are missing."""
        size = (groups + LOOKAHEAD_GROUPS) * GROUP
        if len(self._waiting) >= size:
            chunk = Chunk(self._waiting[:size], last=False)
            self._waiting = self._waiting[groups * GROUP :]
            self._sent += 1
            return chunk
        if self._last and len(self._waiting):
            chunk, self._waiting = Chunk(self._waiting, last=True), self._waiting[:0]
            return chunk
        return None

    def push(self, tokens: NDArray[np.int32], last: bool) -> list[Chunk]:
        """Take tokens and return every chunk that is now complete, sized as in training."""
        self.add(tokens, last)
        chunks = []
        while (chunk := self.take(trained_groups(self._sent))) is not None:
            chunks.append(chunk)
        return chunks
