import numpy as np
import pytest
from safetensors.numpy import load

from python_backend.voice.cache.entry import Damaged, Entry
from tests.voice.cache.entries import assert_same, entry_of, key_of


def test_an_entry_comes_back_as_it_was():
    entry = entry_of(3)
    read = Entry.from_bytes(key_of(3), entry.to_bytes(key_of(3)))
    assert_same(read, entry)
    assert read.encode_seconds == 3.5
    assert read.nbytes == entry.nbytes == 4 * (200 + 80 * 40 + 192)


def test_its_bytes_are_a_safetensors_file():
    tensors = load(entry_of(3).to_bytes(key_of(3)))
    np.testing.assert_array_equal(tensors["prompt_mel"], entry_of(3).prompt_mel)


def test_any_changed_byte_is_noticed():
    data = entry_of(1, frames=2).to_bytes(key_of(1))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x10
        with pytest.raises(Damaged):
            Entry.from_bytes(key_of(1), bytes(changed))


@pytest.mark.parametrize("length", [0, 1, 8, 100, -1])
def test_a_torn_file_is_noticed(length):
    data = entry_of(1).to_bytes(key_of(1))
    with pytest.raises(Damaged):
        Entry.from_bytes(key_of(1), data[:length])


def test_an_entry_under_another_key_is_noticed():
    with pytest.raises(Damaged, match="checksum"):
        Entry.from_bytes(key_of(2), entry_of(1).to_bytes(key_of(1)))
