import subprocess
import sys

import pytest
import torch

from benchmarks.llm_gpu import SIZES, weight_bytes
from python_backend.llm import grammar


def run(*options):
    command = [sys.executable, "-m", "benchmarks.llm_gpu", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
def test_without_a_gpu_it_says_so_and_fails():
    done = run()
    assert done.returncode == 1
    assert done.stdout.startswith("no GPU: ")


def test_it_runs_on_a_cpu():
    done = run("--device", "cpu", "--size", "small")
    assert done.returncode == 0, done.stderr
    rows = [line.split("│")[1:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    assert [int(row[0]) for row in rows] == [1, 8, 32, 64]
    assert all(float(row[1]) > 0 and int(row[5]) > 0 for row in rows)


def test_a_step_reads_all_weights_but_the_embedding_and_most_of_the_head():
    config = SIZES["released"][0]
    rows = config.vocab_size + config.vocab_size - grammar.COLUMNS
    assert weight_bytes(config) == 2 * (3_529_706_496 - rows * config.hidden_size)
