"""What a frame may attend to while the flow is trained: as a whole utterance, and as a stream."""

import numpy as np
import torch

from python_backend.token2wav.masks import valid_positions
from training.flow import CONTEXT_FRAMES, _masks

GROUPS, PROMPT, LENGTH = 40, 6, 38  # groups of six frames


def masks(chunked: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the masks of one row, frames and pairs."""
    valid = valid_positions(torch.tensor([LENGTH * 6]), GROUPS * 6)
    ends = np.cumsum([5, 8, 16, 16]) if chunked else None
    frames, pairs = _masks(torch.tensor([PROMPT]), valid, ends)
    return frames[0, 0], pairs[0, 0]


def test_a_whole_utterance_sees_all_that_counts() -> None:
    frames, pairs = masks(chunked=False)
    assert frames[:, : LENGTH * 6].all()
    assert not frames[:, LENGTH * 6 :].any()
    assert pairs.shape == (GROUPS * 3, GROUPS * 3)


def test_a_stream_sees_prompt_own_chunk_and_recent_past() -> None:
    frames, pairs = masks(chunked=True)
    start = PROMPT * 6
    assert frames[0, :start].all()
    assert not frames[0, start:].any()  # the prompt does not know what follows
    first, second = start, start + 5 * 6
    assert frames[first, : start + 30].all()
    assert not frames[first, start + 30 :].any()
    assert frames[second, : start + (5 + 8) * 6].all()
    late = start + (5 + 8 + 16) * 6  # the fourth chunk
    forgotten = late - CONTEXT_FRAMES
    assert frames[late, :start].all()
    assert not frames[late, start:forgotten].any()
    assert frames[late, forgotten : LENGTH * 6].all()
    assert pairs[late // 2, : LENGTH * 3].all()  # the encoder forgets nothing


def test_no_row_is_without_a_key() -> None:
    for mask in masks(chunked=True):
        assert mask.any(dim=1).all()
