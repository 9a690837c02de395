"""Several processes on one folder, and processes that are killed while they write."""

import random
import signal
import subprocess
import sys
import time

import pytest

from python_backend.voice.cache.disk import DiskStore
from tests.servers import ROOT
from tests.voice.cache.entries import assert_same, entry_of, key_of

VOICES = 40
CAPACITY = 25

# Puts, looks up and now and then clears without end; ends with an error when it reads something that was not put.
WRITER = """
import random, sys
from pathlib import Path
from python_backend.voice.cache.disk import DiskStore
from tests.voice.cache.entries import assert_same, entry_of, key_of
store, chance = DiskStore(Path(sys.argv[1]), int(sys.argv[2])), random.Random(int(sys.argv[4]))
entries = [entry_of(number) for number in range(int(sys.argv[3]))]
print("begun", flush=True)
while True:
    number = chance.randrange(len(entries))
    store.put(key_of(number), entries[number])
    other = chance.randrange(len(entries))
    read = store.get(key_of(other))
    if read is not None:
        assert_same(read, entries[other])
    if chance.random() < 0.01:
        store.clear()
"""


def writer(folder, seed):
    command = [sys.executable, "-c", WRITER, str(folder), str(CAPACITY), str(VOICES), str(seed)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n", process.stderr.read()
    return process


def kill(process, patience):
    time.sleep(patience)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.communicate()


def assert_sound(folder):
    """Open the folder as the next process does: whatever is served is whole, and everything else in order."""
    store = DiskStore(folder, CAPACITY)
    served = 0
    for number in range(VOICES):
        read = store.get(key_of(number))
        if read is not None:
            assert_same(read, entry_of(number))
            served += 1
    files = list(folder.glob("??/*.safetensors"))
    stats = store.stats()
    store.close()
    assert served == len(files) == stats["entries"] <= CAPACITY
    assert stats["damaged"] == 0
    return served


def kill_writers(folder, times):
    chance, served = random.Random(0), 0
    for number in range(times):
        kill(writer(folder, number), chance.uniform(0.0, 0.1))
        served += assert_sound(folder)
    assert served > times, "hardly anything was written before the kills"


def test_a_writer_may_be_killed_at_any_moment(tmp_path):
    kill_writers(tmp_path, 12)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_200_writers_may_be_killed_at_any_moment(tmp_path):
    kill_writers(tmp_path, 200)


def test_processes_share_a_folder_and_the_death_of_one_holds_up_none(tmp_path):
    survivors = [writer(tmp_path, seed) for seed in range(2)]
    for seed in range(3):
        kill(writer(tmp_path, 10 + seed), 0.3)
    for survivor in survivors:
        kill(survivor, 0.2)  # which asserts that it still runs: it has read nothing wrong and waited for nobody
    assert_sound(tmp_path)
