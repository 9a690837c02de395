"""Decoding with fixed shapes in fixed memory, as CUDA graphs need it, with a stand-in for recording and replaying."""

import random

import pytest
import torch

from python_backend.llm import packing, weights
from python_backend.llm.attention import MaskedAttention
from python_backend.llm.decoding import Decoded
from python_backend.llm.engine import Engine
from python_backend.llm.graphs import GraphDecoder, buckets
from python_backend.llm.runner import Runner
from tests.llm.conftest import CPU, Receiver


class StandInCapture:
    """Runs a step again into the memory of its first results: what was read from Python then is never read again."""

    def __init__(self):
        self.replays = 0

    def __call__(self, step):
        recorded = step()

        def replay():
            self.replays += 1
            again = step()
            for name in ("hidden", "logits", "ids"):
                getattr(recorded, name).copy_(getattr(again, name))
            return recorded

        return replay


def any_length(cache, slope, positions):
    """Attention of a fixed shape: every step reads all keys, as many as there may be."""
    return MaskedAttention(cache, slope, positions, 0, len(positions), cache.capacity)


def use_graphs(runner, deterministic=False):
    capture = StandInCapture()
    runner._decoder = GraphDecoder(runner.model, runner._head, runner.cache, deterministic, capture, any_length)
    return capture


def test_batch_sizes_double_then_grow_by_eight_up_to_all_slots():
    assert buckets(1) == [1]
    assert buckets(6) == [1, 2, 4, 6]
    assert buckets(16) == [1, 2, 4, 8, 16]
    assert buckets(64) == [1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64]


def test_steps_take_the_smallest_batch_that_holds_all_slots_in_use(make_engine):
    runner = make_engine(slots=12)._runner
    use_graphs(runner)
    assert [runner._decoder.rows(used) for used in (1, 2, 3, 5, 8, 9, 12)] == [1, 2, 4, 8, 8, 12, 12]
    use_graphs(runner, deterministic=True)
    assert [runner._decoder.rows(used) for used in (1, 12)] == [12, 12]


RULES = [
    *({}, {"top_k": 20}, {"top_p": 0.7}, {"temperature": 0}, {"temperature": 1.5, "repetition_aware": True}),
    {"grammar": False},
]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graphs_give_the_tokens_of_plain_calls(demo, demo_tokenizer, generation, deterministic, dtype):
    model = packing.pack(weights.load(demo, CPU, dtype))
    chooser = random.Random(2)
    wanted = [
        generation(seed=seed, prompt="word " * chooser.randint(1, 90), max_tokens=5 * chooser.randint(1, 16), **rules)
        for seed, rules in enumerate(RULES * 3)
    ]
    found = []
    for graphs in (False, True):
        runner = Runner(model, 6, 256, demo_tokenizer.audio_offset, demo_tokenizer.eot, deterministic)
        capture = use_graphs(runner, deterministic) if graphs else None
        engine = Engine(runner, prefill_chunk=32)
        receivers = [Receiver() for _ in wanted]
        for request, receiver in zip(wanted, receivers, strict=True):
            engine.submit(request, receiver)
        found.append([(type(receiver.end()), receiver.tokens) for receiver in receivers])
        engine.close()
        assert capture is None or capture.replays > 50
    assert found[0] == found[1]


def test_nobodys_rows_store_nothing_that_is_read(make_engine):
    runner = make_engine(slots=4)._runner
    use_graphs(runner)
    assert not runner.cache.keys[..., : runner.cache.capacity, :].any()


@torch.inference_mode()
def test_a_step_reads_its_input_from_the_recorded_memory(make_engine):
    runner = make_engine(slots=4)._runner
    use_graphs(runner)
    table = torch.zeros(8, 4, dtype=torch.float64)
    table[0] = torch.tensor([3, 4, 5, 6])
    first = runner._decoder(table, 4, 0)
    assert isinstance(first, Decoded)
    address, kept = first.ids.data_ptr(), first.hidden.clone()
    table[0] = torch.tensor([7, 4, 5, 6])
    second = runner._decoder(table, 4, 0)
    assert second.ids.data_ptr() == address
    assert not torch.equal(second.hidden[0], kept[0])
    assert torch.equal(second.hidden[1:], kept[1:])
