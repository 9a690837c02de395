import numpy as np
import torch

from python_backend.token2wav.encoder import relative_positions
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
