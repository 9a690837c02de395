from itertools import pairwise

import numpy as np
import pytest
import torch

from python_backend.token2wav.encoder import relative_positions
from python_backend.token2wav.streaming.chunks import CHUNK_GROUPS, Chunker, chunk_groups
from python_backend.token2wav.streaming.encoder import _attend
from python_backend.token2wav.streaming.memory import AttentionMemory


def test_the_prompt_and_the_newest_frames_stay_in_order():
    random = np.random.default_rng(0)
    prompt, context, chunk = 5, 7, 9
    start = AttentionMemory((1,), 1, 1, prompt, 0, 0, torch.empty(0))
    frames = torch.arange(200.0)[None, :, None]
    start.append((0,), frames[:, :prompt], -frames[:, :prompt])
    start.commit(prompt)
    memory = start.fork(context, chunk)
    seen = prompt
    while seen < 180:
        size = int(random.integers(1, chunk + 1))
        new = frames[:, seen : seen + size]
        keys, values = memory.append((0,), new, -new)
        newest = list(range(max(prompt, seen - context), seen + size))
        assert keys.flatten().tolist() == [*range(prompt), *newest]
        assert torch.equal(values, -keys)
        memory.commit(size)
        seen += size
        assert memory.filled == min(seen, prompt + context)
        assert memory.filled + memory.dropped == seen
    assert start.keys.flatten().tolist() == list(range(prompt))


@torch.inference_mode()
def test_keys_keep_their_distances_when_frames_between_are_forgotten(flow):
    """As if the forgotten keys were still in place, but closed."""
    layer = flow.encoder.encoders[0].self_attn
    prompt, context, chunk, chunks = 6, 8, 5, 6
    x = torch.randn(1, prompt + chunks * chunk, 48, generator=torch.Generator().manual_seed(1))
    memory = AttentionMemory((1, 1), 4, 12, prompt, context, chunk, x)

    def attend(first, last):
        attended = _attend(layer, x[:, first:last], relative_positions(last, 48, x.device), memory, 0)
        memory.commit(last - first)
        return attended

    attend(0, prompt)
    for index in range(chunks):
        first = prompt + index * chunk
        last = first + chunk
        actual = attend(first, last)
        closed = torch.zeros(1, 1, 1, last)
        closed[..., prompt : max(prompt, first - context)] = -torch.inf
        expected = layer(x[:, :last], relative_positions(last, 48, x.device), closed)[:, first:]
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    assert memory.dropped == chunks * chunk - context


def test_chunks_grow_and_are_large_at_once_when_many_streams_run():
    assert [chunk_groups(sent) for sent in range(5)] == [5, 8, 16, 16, 16]
    assert [chunk_groups(sent, streams=5) for sent in range(3)] == [5, 16, 16]


@pytest.mark.parametrize("groups", [1, 5, 6, 7, 100])
def test_chunks_overlap_by_the_look_ahead(groups):
    tokens = np.arange(5 * groups, dtype=np.int32)
    chunks = Chunker().push(tokens, last=True)
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    own = [chunk.tokens if chunk.last else chunk.tokens[:-5] for chunk in chunks]
    assert np.array_equal(np.concatenate(own), tokens)
    for sent, (chunk, following) in enumerate(pairwise(chunks)):
        assert len(chunk.tokens) == 5 * (chunk_groups(sent) + 1)
        assert np.array_equal(chunk.tokens[-5:], following.tokens[:5])
    assert len(chunks[-1].tokens) <= 5 * CHUNK_GROUPS[-1]


def test_a_chunk_leaves_as_soon_as_its_look_ahead_is_there():
    chunker = Chunker()
    assert chunker.push(np.zeros(29, dtype=np.int32), last=False) == []
    assert len(chunker.push(np.zeros(1, dtype=np.int32), last=False)) == 1
    assert [chunk.last for chunk in chunker.push(np.empty(0, dtype=np.int32), last=True)] == [True]
