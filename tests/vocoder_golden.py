"""The small flow and vocoder checkpoint and what the original computes with it."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch

from export.checkpoint import Checkpoint
from export.vocoder import load as load_hift_module

DIRECTORY = Path(__file__).resolve().parent / "golden" / "vocoder_small"
CHECKPOINT = Checkpoint.open(DIRECTORY)
TOLERANCES = json.loads((DIRECTORY / "tolerances.json").read_text())


@cache
def arrays(group):
    """All arrays of one file, as tensors."""
    with np.load(DIRECTORY / f"{group}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file}


def assert_golden(group, name, actual, looser=1.0):
    expected = arrays(group)[name].reshape(actual.shape)
    tolerance = TOLERANCES[group][name]
    actual = torch.as_tensor(actual)
    assert (actual - expected).abs().max().item() <= looser * tolerance["atol"]
    assert relative(actual, expected) <= looser * tolerance["rel_rms_tol"]


def relative(actual, expected):
    return float((actual - expected).norm() / expected.norm())


@cache
def hift():
    return load_hift_module(DIRECTORY)


def tail_filled(tokens):
    """Whole groups, as the original fills up a broken last one: padding in the vq02 slots, the first code in vq06."""
    pattern = np.array([0, 0, 1024, 1024, 1024])
    missing = -len(tokens) % 5
    return np.concatenate([tokens, pattern[5 - missing :]]).astype(np.int32)
