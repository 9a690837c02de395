"""The launcher's parts that need no tritonserver."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from server.console import say
from server.process import Child, processes
from server.recovery import GiveUp, Patience, is_engine
from server.shared_memory import Prefix, remove_litter
from server.threads import thread_budget, usable_cores
from server.triton_log import LoadProgress, worth_showing


def test_a_prefix_is_cleared_and_released(tmp_path):
    prefix = Prefix(tmp_path)
    (tmp_path / f"{prefix.name}region").touch()
    (tmp_path / "somebody-elses").touch()
    prefix.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["somebody-elses", f"{prefix.name}lock"]
    (tmp_path / f"{prefix.name}region").touch()
    prefix.release()
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-elses"]


def test_litter_is_what_nobody_holds_the_lock_of(tmp_path):
    alive = Prefix(tmp_path)
    (tmp_path / f"{alive.name}region").touch()
    (tmp_path / "stepaudio_7_abcdef_lock").touch()
    (tmp_path / "stepaudio_7_abcdef_region").write_bytes(bytes(1000))
    (tmp_path / "stepaudio_8_fedcba_lock").touch()
    (tmp_path / "stepaudio_unrelated").touch()
    with (tmp_path / "stepaudio_8_fedcba_lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert remove_litter(tmp_path) == 1000
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{alive.name}lock", f"{alive.name}region", "stepaudio_8_fedcba_lock", "stepaudio_unrelated"}
    alive.release()


FAMILY = "import subprocess, time; subprocess.Popen(['sleep', '60']); print('up', flush=True); time.sleep(60)"


def start(code, lines):
    child = Child([sys.executable, "-c", code], os.environ, lines.append)
    deadline = time.monotonic() + 10
    while not lines:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return child


def group(pid):
    return [process.pid for process in processes() if process.group == pid]


def test_a_child_is_killed_with_its_own_children():
    lines = []
    child = start(FAMILY, lines)
    assert lines == ["up"]
    assert len(group(child.pid)) == 2
    child.kill()
    assert group(child.pid) == []
    assert child.exit_code == -signal.SIGKILL


def test_a_child_is_asked_before_it_is_killed():
    lines = []
    child = start(
        "import signal, time; signal.signal(15, lambda *_: exit(5)); print('up', flush=True); time.sleep(60)", lines
    )
    child.stop(grace=10)
    assert child.exit_code == 5
    stubborn = start(
        "import signal, time; signal.signal(15, lambda *_: 0); print('up', flush=True)\nwhile True: time.sleep(1)", []
    )
    started = time.monotonic()
    stubborn.stop(grace=0.5)
    assert time.monotonic() - started < 2
    assert stubborn.exit_code == -signal.SIGKILL


def test_a_child_dies_with_its_parent(tmp_path):
    code = (
        "import os, sys, time\nfrom server.process import Child\n"
        "child = Child(['sleep', '60'], os.environ, print)\nprint(child.pid, flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while any(process.pid == pid for process in processes()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_cores_are_what_affinity_quota_and_user_leave(tmp_path):
    here = len(os.sched_getaffinity(0))
    quota = tmp_path / "cpu.max"
    assert usable_cores({}, tmp_path / "absent") == here
    quota.write_text("max 100000\n")
    assert usable_cores({}, quota) == here
    quota.write_text("100000 100000\n")
    assert usable_cores({}, quota) == 1
    quota.write_text("50000 100000\n")
    assert usable_cores({}, quota) == 1
    assert usable_cores({"OMP_NUM_THREADS": "1"}, tmp_path / "absent") == 1


def test_light_encoders_get_a_quarter_of_the_cores():
    budget = thread_budget(16)
    assert budget["OMP_NUM_THREADS"] == budget["ONNXRUNTIME_THREADS"] == "16"
    assert budget["ONNXRUNTIME_THREADS_SPEAKER_ENCODER"] == "4"
    assert thread_budget(2)["ONNXRUNTIME_THREADS_SEMANTIC_TOKENIZER"] == "1"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('I1121 00:13:11.732578 6869 model_lifecycle.cc:472] "loading: held:1"', False),
        ("+------------------+------+", False),
        ("| Repository Agent | Path |", False),
        ("", False),
        ('E1121 00:13:11.731488 6869 server.cc:241] "CudaDriverHelper has not been initialized."', False),
        ("Error: Failed to initialize NVML", False),
        ('W1121 00:13:11.883559 6869 metrics.cc:798] "DCGM unable to start: DCGM initialization error"', False),
        ('E1121 00:13:11.731488 6869 python_be.cc:1] "Stub process is not healthy."', True),
        ('I1121 00:13:11.731488 6869 model.py:17] "voice cache: 12 entries"', True),
        ("a line a model printed", True),
    ],
)
def test_the_log_is_freed_of_noise(line, shown):
    assert worth_showing(line) is shown


def test_load_progress_is_read_from_the_log():
    progress = LoadProgress(["a", "b"])
    assert progress.read("I1121 00:13:11.876080 6869 model_lifecycle.cc:839] \"successfully loaded 'a'\"") == "a"
    assert list(progress.waiting) == ["b"]
    failure = (
        "E1121 00:13:11.1 6869 model_lifecycle.cc:642] \"failed to load 'b' version 1: Internal: no\\n\\nluck\\n\""
    )
    assert progress.read(failure) is None
    assert progress.failures == {"b": "Internal: no\n\nluck"}


def test_engines_are_told_from_stateless_models():
    engines = ("llm_base", "llm_base_unary", "llm_awq", "flow", "step_audio_editx_stream")
    assert all(is_engine(model) for model in engines)
    assert not any(is_engine(model) for model in ("voice_encoder", "vocoder", "linguistic_tokenizer"))


def test_patience_waits_longer_and_ends():
    patience = Patience(tries=5)
    assert [patience.failed("x", 0.0) for _ in range(5)] == [0, 1, 2, 4, 4]
    with pytest.raises(GiveUp, match="x; given up after 5 restarts in a row"):
        patience.failed("x", 0.0)


def test_patience_starts_anew_after_a_calm_spell_only():
    patience = Patience(tries=5, calm=10)
    patience.failed("x", 0.0)
    patience.recovered(5.0)
    assert patience.failed("x", 9.0) == 1, "it ran for 4 s"
    patience.recovered(12.0)
    assert patience.failed("x", 30.0) == 0, "it ran for 18 s"
    assert patience.failed("x", 60.0) == 1, "it did not come up in between"


def test_a_listener_that_went_away_stops_nothing(monkeypatch):
    def closed(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    say("anybody?")
