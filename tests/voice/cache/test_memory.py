from python_backend.voice.cache.memory import MemoryStore
from tests.voice.cache.entries import entry_of, key_of

SIZE = entry_of(0).nbytes


def held(store, numbers):
    return [number for number in numbers if store.get(key_of(number)) is not None]


def test_the_one_used_longest_ago_goes_first():
    store = MemoryStore(3 * SIZE, max_entries=100)
    for number in range(3):
        store.put(key_of(number), entry_of(number))
    store.touch(key_of(0))
    store.put(key_of(3), entry_of(3))
    assert held(store, range(4)) == [0, 2, 3]
    assert store.stats() == {"entries": 3, "bytes": 3 * SIZE}


def test_entries_are_bounded_too():
    store = MemoryStore(1_000_000, max_entries=2)
    for number in range(4):
        store.put(key_of(number), entry_of(number))
    assert held(store, range(4)) == [2, 3]


def test_what_is_too_large_is_not_kept_and_a_second_put_is_no_second_entry():
    store = MemoryStore(SIZE, max_entries=10)
    store.put(key_of(0), entry_of(0))
    store.put(key_of(0), entry_of(0))
    assert store.stats()["bytes"] == SIZE
    store.put(key_of(1), entry_of(1, frames=400))
    assert store.get(key_of(1)) is None
    store.clear()
    assert store.stats() == {"entries": 0, "bytes": 0}
