from pathlib import Path

import pytest
import torch

from python_backend.llm.kv_cache import SlotCache, slots_within
from python_backend.llm.prefix_cache import PrefixCache
from tests.llm.conftest import CPU


@pytest.fixture
def cache(demo_model):
    made = SlotCache(demo_model.config, 3, 128, torch.float32, CPU)
    made.keys.normal_()
    made.values.normal_()
    return made


def ids(start, count=40):
    return tuple(range(start, start + count))


def test_a_kept_prefix_comes_back_in_any_slot(cache):
    prefixes = PrefixCache(cache, 10**9)
    expected = cache.keys[:, 0, :, :40].clone(), cache.values[:, 0, :, :40].clone()
    rest = cache.keys[:, 2, :, 40:].clone()
    assert not prefixes.load(ids(0), 0)
    prefixes.store(ids(0), 0)
    cache.keys[:, 0] = 0
    assert prefixes.load(ids(0), 2)
    assert torch.equal(cache.keys[:, 2, :, :40], expected[0])
    assert torch.equal(cache.values[:, 2, :, :40], expected[1])
    assert torch.equal(cache.keys[:, 2, :, 40:], rest)
    assert not prefixes.load(ids(1), 2)
    assert (prefixes.hits, prefixes.misses) == (1, 2)


def test_the_least_recently_used_goes_first_and_the_budget_holds(cache):
    each = 2 * cache.keys[:, 0, :, :40].numel() * 4
    prefixes = PrefixCache(cache, 2 * each + each // 2)
    for start in (0, 1):
        prefixes.store(ids(start), 0)
    assert prefixes.nbytes == 2 * each
    assert prefixes.load(ids(0), 1)
    prefixes.store(ids(2), 0)
    assert prefixes.nbytes == 2 * each
    assert [prefixes.load(ids(start), 1) for start in range(3)] == [True, False, True]


def test_short_ones_and_ones_over_the_budget_are_not_kept(cache):
    prefixes = PrefixCache(cache, 1000)
    prefixes.store(ids(0), 0)
    prefixes.store(ids(0, 8), 0)
    assert prefixes.nbytes == 0
    assert not prefixes.load(ids(0, 8), 0)
    assert prefixes.misses == 0, "a short one is not looked for"


def test_slots_fit_the_byte_budget(demo_model):
    config = demo_model.config
    each = SlotCache(config, 1, 128, torch.float32, CPU).nbytes
    assert slots_within(10 * each, 16, config, 128, torch.float32) == 10
    assert slots_within(20 * each, 16, config, 128, torch.float32) == 16
    assert slots_within(10 * each, 16, config, 128, torch.bfloat16) == 16
    with pytest.raises(ValueError, match=f"one slot of 128 positions takes {each}"):
        slots_within(each - 1, 16, config, 128, torch.float32)


def test_untouched_slots_take_no_memory(golden_model):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    cache = SlotCache(golden_model.config, 64, 32_768, torch.float32, CPU)
    assert cache.nbytes > 10**9
    assert resident() - before < 10**8
    assert not cache.keys[0, 63, 0, :100].any()
