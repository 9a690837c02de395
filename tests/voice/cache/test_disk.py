"""The folder of one process; several of them are in test_processes.py."""

import os
import sqlite3
import stat
import threading
import time

import pytest

from python_backend.voice.cache.disk import ABANDONED_SECONDS, DiskStore
from python_backend.voice.cache.store import StoreFailed
from tests.voice.cache.entries import assert_same, entry_of, key_of


@pytest.fixture
def opened(tmp_path):
    stores = []

    def run(capacity=1000, folder=tmp_path / "voices"):
        stores.append(DiskStore(folder, capacity))
        return stores[-1]

    yield run
    for store in stores:
        store.close()


def file_of(tmp_path, number):
    return tmp_path / "voices" / key_of(number)[:2] / f"{key_of(number)}.safetensors"


def files(tmp_path):
    return {path.stem for path in (tmp_path / "voices").glob("??/*.safetensors")}


def test_a_voice_outlives_its_process(opened):
    opened().put(key_of(1), entry_of(1))
    read = opened().get(key_of(1))
    assert read is not None
    assert_same(read, entry_of(1))
    assert opened().get(key_of(2)) is None


def test_a_thousand_are_kept_and_the_oldest_use_goes_first_also_after_a_restart(opened, tmp_path):
    store, small = opened(), entry_of(0, frames=1)
    for number in range(1000):
        store.put(key_of(number), small)
    store.touch(key_of(0))
    assert store.get(key_of(1)) is not None
    store.close()
    store = opened()  # which must remember the order of use
    for number in range(1000, 1003):
        store.put(key_of(number), small)
        assert store.stats()["entries"] == 1000
    assert files(tmp_path) == {key_of(number) for number in range(1003) if number not in (2, 3, 4)}


def test_a_smaller_capacity_takes_effect_at_once(opened, tmp_path):
    store = opened()
    for number in range(5):
        store.put(key_of(number), entry_of(number))
    assert opened(capacity=2).stats()["entries"] == 2
    assert files(tmp_path) == {key_of(3), key_of(4)}


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_file_is_dropped_and_can_be_written_again(opened, tmp_path, damage):
    store = opened()
    store.put(key_of(1), entry_of(1))
    content = file_of(tmp_path, 1).read_bytes()
    file_of(tmp_path, 1).write_bytes(content[:-1] + b"?" if damage is None else damage)
    assert store.get(key_of(1)) is None
    assert store.stats() == {"entries": 0, "bytes": 0, "damaged": 1}
    assert not file_of(tmp_path, 1).exists()
    store.put(key_of(1), entry_of(1))
    assert_same(store.get(key_of(1)), entry_of(1))


def test_files_and_rows_that_lost_each_other_are_put_right(opened, tmp_path):
    store = opened()
    for number in range(3):
        store.put(key_of(number), entry_of(number))
    file_of(tmp_path, 0).unlink()
    store._index.remove(key_of(1))
    assert store.get(key_of(0)) is None
    again = opened()
    assert again.stats()["entries"] == 2
    assert_same(again.get(key_of(1)), entry_of(1))


@pytest.mark.parametrize("damage", [b"this is no database at all", b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_index_costs_the_order_only(opened, tmp_path, damage):
    store = opened()
    for number in range(3):
        store.put(key_of(number), entry_of(number))
    store.close()
    (tmp_path / "voices" / "index.sqlite3").write_bytes(damage)
    again = opened()
    assert again.stats()["entries"] == 3
    assert_same(again.get(key_of(2)), entry_of(2))


def test_clearing_leaves_no_file(opened, tmp_path):
    store = opened()
    for number in range(3):
        store.put(key_of(number), entry_of(number))
    store._index.remove(key_of(1))
    store.clear()
    assert store.stats() == {"entries": 0, "bytes": 0, "damaged": 0}
    assert not list((tmp_path / "voices").glob("??"))
    store.put(key_of(1), entry_of(1))
    assert store.get(key_of(1)) is not None


def test_what_killed_writers_left_is_removed_in_time(opened, tmp_path):
    opened()
    fresh, old = (tmp_path / "voices" / "new" / name for name in ("fresh", "old"))
    for path in (fresh, old):
        path.write_bytes(b"half")
    long_ago = time.time() - ABANDONED_SECONDS - 1
    os.utime(old, (long_ago, long_ago))
    opened()
    assert fresh.exists()
    assert not old.exists()


def test_voices_are_for_their_user_alone(opened, tmp_path):
    opened().put(key_of(1), entry_of(1))
    for path in (tmp_path / "voices", file_of(tmp_path, 1)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_folder_that_is_there_keeps_its_rights(opened, tmp_path):
    (tmp_path / "voices").mkdir(mode=0o750)
    opened().put(key_of(1), entry_of(1))
    assert stat.S_IMODE((tmp_path / "voices").stat().st_mode) == 0o750


def test_a_folder_that_cannot_be_used_says_so(opened, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreFailed, match="folder"):
        opened(folder=tmp_path / "file")


def test_a_lost_index_or_full_disk_fails_as_a_store_does(opened, tmp_path, monkeypatch):
    store = opened()
    monkeypatch.setattr("os.fdopen", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreFailed, match="No space left"):
        store.put(key_of(1), entry_of(1))
    monkeypatch.undo()
    store._index.close()
    with pytest.raises(StoreFailed, match=sqlite3.ProgrammingError.__name__):
        store.touch(key_of(1))


def test_many_threads_share_a_store(opened):
    store = opened(capacity=5)
    failures = []

    def work(seed):
        try:
            for step in range(30):
                number = (seed + step) % 8
                store.put(key_of(number), entry_of(number))
                read = store.get(key_of((number + 1) % 8))
                if read is not None:
                    assert_same(read, entry_of((number + 1) % 8))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.stats()["entries"] <= 5
