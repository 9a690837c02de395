"""Cutting tokens into chunks, and how large chunks are while others listen and speak."""

from itertools import pairwise

import numpy as np
import pytest

from python_backend.token2wav.streaming.chunks import CHUNK_GROUPS, Chunker, Pacing, trained_groups

GROUP_SECONDS = 0.12
HELD_BACK = 0.16  # of every chunk but the last, until the next one


def test_chunks_grow_as_in_training():
    assert [trained_groups(sent) for sent in range(5)] == [5, 8, 16, 16, 16]


@pytest.mark.parametrize("groups", [1, 5, 6, 7, 100])
def test_chunks_overlap_by_the_look_ahead(groups):
    tokens = np.arange(5 * groups, dtype=np.int32)
    chunks = Chunker().push(tokens, last=True)
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    own = [chunk.tokens if chunk.last else chunk.tokens[:-5] for chunk in chunks]
    assert np.array_equal(np.concatenate(own), tokens)
    for sent, (chunk, following) in enumerate(pairwise(chunks)):
        assert len(chunk.tokens) == 5 * (trained_groups(sent) + 1)
        assert np.array_equal(chunk.tokens[-5:], following.tokens[:5])
    assert len(chunks[-1].tokens) <= 5 * CHUNK_GROUPS[-1]


def test_a_chunk_leaves_as_soon_as_its_look_ahead_is_there():
    chunker = Chunker()
    assert chunker.push(np.zeros(29, dtype=np.int32), last=False) == []
    assert len(chunker.push(np.zeros(1, dtype=np.int32), last=False)) == 1
    assert [chunk.last for chunk in chunker.push(np.empty(0, dtype=np.int32), last=True)] == [True]


class Listener:
    """One stream against a clock of our own: tokens at an even pace, chunks that take `fixed` + `per_group` seconds."""

    def __init__(self, per_token_group, fixed, per_group, streams=1):
        self.now = 0.0
        self.sizes = []
        self.waited = 0.0
        self._costs = per_token_group, fixed, per_group, streams

    def hear(self, groups):
        per_token_group, fixed, per_group, streams = self._costs
        chunker, pacing = Chunker(), Pacing(lambda: self.now)
        came, plays_until = 0, None
        while came < groups:
            came += 1
            self.now = max(self.now, came * per_token_group)
            chunker.add(np.zeros(5, dtype=np.int32), last=came == groups)
            pacing.came(1)
            while (chunk := chunker.take(pacing.groups(chunker.waiting, streams))) is not None:
                took = fixed + per_group * chunk.own_groups
                self.now += took
                sound = GROUP_SECONDS * chunk.own_groups + HELD_BACK * (bool(self.sizes) - (not chunk.last))
                pacing.rendered(chunk.own_groups, took, sound)
                self.sizes.append(chunk.own_groups)
                plays_until = self.now if plays_until is None else plays_until
                self.waited = max(self.waited, self.now - plays_until)
                plays_until = max(plays_until, self.now) + sound
        return self


def test_with_time_to_spare_chunks_are_those_of_training():
    quick = Listener(per_token_group=0.01, fixed=0.02, per_group=0.004).hear(100)
    assert quick.sizes[:4] == [5, 8, 16, 16]
    assert quick.waited == 0
    assert Listener(0.01, 0.02, 0.004, streams=8).hear(100).sizes[:3] == [5, 16, 16]


@pytest.mark.parametrize("streams", [1, 8])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_nobody_waits_while_sound_is_made_in_seven_tenths_of_its_time(share, streams):
    """`share` of the time is the language model's; of a chunk's, a fixed part of 30 ms."""
    each = 0.7 * GROUP_SECONDS
    slow = Listener(share * each, 0.03, (1 - share) * each - 0.03 / CHUNK_GROUPS[0], streams).hear(250)
    assert slow.waited < 0.05
    assert slow.sizes[-2] == CHUNK_GROUPS[-1], "it gets ahead, and then saves work"


def test_who_falls_far_behind_gets_large_chunks():
    late = Listener(per_token_group=0.05, fixed=0.2, per_group=0.13).hear(200)
    assert late.sizes[0] == 5
    assert late.sizes[-2] == CHUNK_GROUPS[-1]
