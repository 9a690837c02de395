"""What a frame may attend to while the flow is trained: as a whole utterance, and as a stream."""

import numpy as np
import pytest
import torch

from python_backend.token2wav.flow import Flow
from python_backend.token2wav.masks import valid_positions
from python_backend.token2wav.streaming.chunks import Chunker
from python_backend.token2wav.streaming.flow import StreamingFlow
from python_backend.token2wav.streaming.noise import SeededNoise
from python_backend.token2wav.tokens import pairs as token_pairs
from training.flow import CONFIG, CONTEXT_FRAMES, VOCAB, _masks, _mu, _velocity

GROUPS, PROMPT, LENGTH = 40, 6, 38  # groups of six frames


def masks(chunked: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the masks of one row, of the estimator and of the encoder."""
    valid = valid_positions(torch.tensor([LENGTH * 6]), GROUPS * 6)
    ends = np.cumsum([5, 8, 16, 16]) if chunked else None
    estimator, encoder = _masks(torch.tensor([PROMPT]), valid, ends)
    return estimator[0, 0], encoder[0, 0]


def test_a_whole_utterance_sees_all_that_counts() -> None:
    frames, encoder = masks(chunked=False)
    assert frames[:, : LENGTH * 6].all()
    assert not frames[:, LENGTH * 6 :].any()
    assert torch.equal(frames, encoder)


def test_a_stream_sees_prompt_own_chunk_and_recent_past() -> None:
    frames, encoder = masks(chunked=True)
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
    assert encoder[late, : LENGTH * 6].all()  # the encoder forgets nothing


def test_no_row_is_without_a_key() -> None:
    for mask in masks(chunked=True):
        assert mask.any(dim=1).all()


def tokens(generator: np.random.Generator, groups: int) -> np.ndarray:
    """Return int32 [5 * groups]."""
    linguistic, semantic = generator.integers(1024, size=(groups, 2)), generator.integers(1024, 5120, size=(groups, 3))
    return np.concatenate([linguistic, semantic], axis=1).reshape(-1).astype(np.int32)


@torch.inference_mode()
def test_training_computes_what_a_stream_computes() -> None:
    """One solver step from the same noise, chunk by chunk through the server's code, and at once under the masks."""
    torch.manual_seed(0)
    network, generator = Flow(CONFIG).eval(), np.random.default_rng(0)
    before, after = tokens(generator, PROMPT), tokens(generator, LENGTH - PROMPT)
    prompt_mel = generator.standard_normal((80, 6 * PROMPT)).astype(np.float32)
    speaker = torch.randn(192).bfloat16().float()
    flow = StreamingFlow(network, CONFIG)
    prompt = flow.prepare(before, prompt_mel, speaker.numpy(), steps=1, guidance=0.0)
    stream = flow.open(prompt, 0)
    streamed = np.concatenate([flow.push(stream, chunk) for chunk in Chunker().push(after, last=True)], axis=1).T

    frames = 6 * LENGTH
    valid = torch.ones(1, frames, dtype=torch.bool)
    prompts, lengths = torch.tensor([PROMPT]), torch.tensor([LENGTH])
    mask, encoder_mask = _masks(prompts, valid, np.cumsum([5, 8, 16, 16]))
    all_pairs = torch.from_numpy(token_pairs("tokens", np.concatenate([before, after]), VOCAB, LENGTH))[None]
    mu = _mu(network, all_pairs, lengths, prompts, encoder_mask)
    condition = torch.zeros(1, frames, 80)
    condition[0, : 6 * PROMPT] = torch.from_numpy(prompt_mel.T)
    estimator = network.decoder.estimator
    context = estimator.context(mu, network.speaker(speaker[None]), condition)
    noise = torch.from_numpy(SeededNoise(0, 80)(0, frames))[None]
    at_once = (noise + _velocity(estimator, noise, context, torch.zeros(1), mask))[0, 6 * PROMPT :]
    assert streamed == pytest.approx(at_once.numpy(), abs=2e-4)
