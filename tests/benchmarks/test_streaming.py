"""The parts of `python -m benchmarks.streaming` that need no server."""

import os
import subprocess
import sys

import pytest
import torch

from benchmarks import streaming_cost
from benchmarks.direct import Token2Wav
from benchmarks.memory import family, proportional_bytes
from tests.servers import ROOT

BAR = 1.3


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_streaming_costs_flow_and_vocoder_little_more_than_whole_utterances():
    cost = streaming_cost.measure(Token2Wav.load(ROOT / "model_repository", threads=1), groups=50, runs=2)
    print(f"flow + vocoder, CPU time in chunks over whole: {cost.ratio:.2f}")
    assert cost.ratio <= BAR
    assert cost.vocoder_bytes <= (8 * 80 + 2 * 3840) * 4
    assert cost.flow_bytes > 0


def test_memory_counts_descendants():
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert len(family(process.pid)) == 2
        assert family(process.pid) < family(os.getpid())
        assert 1e6 < proportional_bytes(process.pid) < 1e9
        process.communicate("\n", timeout=10)
