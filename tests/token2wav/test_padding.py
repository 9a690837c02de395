"""Padding to the right of a batch changes nothing, and long inputs are cut into blocks without a trace."""

import torch

from python_backend.token2wav import encoder
from python_backend.token2wav.solver import solve

PAIRS = [33, 12, 21, 3]
FLOAT_NOISE = 2e-5


def batch(config, seed):
    random = torch.Generator().manual_seed(seed)
    size, frames = max(PAIRS), 2 * max(PAIRS)
    return (
        torch.randint(0, config.vocab_size, (len(PAIRS), size, 2), generator=random),
        torch.tensor(PAIRS),
        torch.randn(len(PAIRS), config.speaker_size, generator=random),
        torch.randn(len(PAIRS), frames, config.mel_channels, generator=random),
        torch.randn(len(PAIRS), frames, config.mel_channels, generator=random),
    )


@torch.inference_mode()
def test_padded_rows_solve_as_they_do_alone(runtime, config):
    pairs, lengths, speaker, condition, noise = batch(config, 1)
    context = runtime.context(pairs, lengths, speaker, condition)
    together = solve(runtime, noise, context, 2 * lengths, 4, 0.7)
    for row, count in enumerate(PAIRS):
        frames = 2 * count
        alone_context = runtime.context(pairs[[row], :count], lengths[[row]], speaker[[row]], condition[[row], :frames])
        assert (context[[row], :frames] - alone_context).abs().max() < FLOAT_NOISE
        alone = solve(runtime, noise[[row], :frames], alone_context, torch.tensor([frames]), 4, 0.7)
        assert (together[[row], :frames] - alone).abs().max() < FLOAT_NOISE


@torch.inference_mode()
def test_encoder_blocks_of_queries_equal_one_block(flow, config, monkeypatch):
    pairs, lengths, *_ = batch(config, 2)
    whole = flow.mu(pairs, lengths)
    monkeypatch.setattr(encoder, "QUERY_BLOCK", 7)
    assert (flow.mu(pairs, lengths) - whole)[0].abs().max() < FLOAT_NOISE


@torch.inference_mode()
def test_without_guidance_one_row_gives_the_conditional_velocity(runtime, config):
    pairs, lengths, speaker, condition, noise = batch(config, 3)
    context = runtime.context(pairs[:1], lengths[:1], speaker[:1], condition[:1])
    frames = torch.tensor([noise.shape[1]])
    zero = solve(runtime, noise[:1], context, frames, 3, 0.0)
    nearly = solve(runtime, noise[:1], context, frames, 3, 1e-7)
    assert (zero - nearly).abs().max() < FLOAT_NOISE
