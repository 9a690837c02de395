"""How the cores are shared among the dozen processes behind one request."""

import os
from pathlib import Path

LIGHT = ("semantic_tokenizer", "speaker_encoder")
"""Encoders that run while the larger linguistic tokenizer does."""


def usable_cores(environment: dict[str, str], quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the cores this process may use: affinity, container quota and OMP_NUM_THREADS, whichever is least."""
    limits = [len(os.sched_getaffinity(0))]
    if quota_file.is_file():
        quota, _, period = quota_file.read_text().strip().partition(" ")
        if quota != "max":
            limits.append(max(1, round(int(quota) / int(period))))
    if environment.get("OMP_NUM_THREADS", "").isdigit():
        limits.append(max(1, int(environment["OMP_NUM_THREADS"])))
    return min(limits)


def thread_budget(cores: int) -> dict[str, str]:
    """Return the environment that sets every process's thread count on a machine with `cores` cores.

    One utterance passes through its stages in turn, so the language model, the flow, the vocoder and the linguistic
    tokenizer each get all cores. The two light encoders run beside the linguistic tokenizer and get a quarter. NumPy's
    own thread pool is never worth its start-up: what it computes here is small.
    """
    light = str(max(1, cores // 4))
    return {
        "OMP_NUM_THREADS": str(cores),
        "OPENBLAS_NUM_THREADS": "1",
        "ONNXRUNTIME_THREADS": str(cores),
        **{f"ONNXRUNTIME_THREADS_{model.upper()}": light for model in LIGHT},
    }
