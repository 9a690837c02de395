"""Encoder and estimator, chunk by chunk, against the arrays of golden_flow.npz."""

import pytest
import torch

from python_backend.token2wav.streaming.encoder import EncoderState, encode_chunk
from python_backend.token2wav.streaming.estimator import EstimatorState, velocity_chunk
from tests.vocoder_golden import arrays, assert_golden

GOLDEN = arrays("golden_flow")


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def held(memory):
    return torch.cat([memory.keys, memory.values], dim=-1)[..., : memory.filled, :]


def test_encoder(flow):
    state = EncoderState.empty(flow.encoder, prompt=0, context=30, chunk=13)

    def encode(chunk, last=False):
        return encode_chunk(flow.encoder, state, flow.input_embedding(GOLDEN[f"encchunk_token{chunk}"]), last)

    def convolutions():
        return torch.cat([state.lookahead_past, state.upsample_past], dim=2)

    assert_golden("golden_flow", "encchunk_h1", encode(1))
    assert_golden("golden_flow", "encchunk_cnn1", convolutions())
    memory = torch.cat([held(state.lower).repeat(1, 1, 1, 2, 1), held(state.upper)])
    assert_golden("golden_flow", "encchunk_att1", memory)
    assert_golden("golden_flow", "encchunk_h2", encode(2))
    assert_golden("golden_flow", "encchunk_cnn2", convolutions())
    assert state.upper.filled == GOLDEN["encchunk_att2_shape"][3]
    assert_golden("golden_flow", "encchunk_h3_last", encode(3, last=True))


def test_estimator(flow):
    estimator = flow.decoder.estimator
    state = EstimatorState.empty(estimator, steps=1, rows=2, prompt=0, context=30, chunk=14)
    modulation = estimator.modulation(GOLDEN["ditchunk_t"][:1])[0]
    for chunk in (1, 2):
        x, mu, condition = (GOLDEN[f"ditchunk_{name}{chunk}"].mT for name in ("x", "mu", "cond"))
        context = estimator.context(mu, GOLDEN["ditchunk_spks"], condition)
        assert_golden(
            "golden_flow", f"ditchunk_out{chunk}", velocity_chunk(estimator, [state], 0, x, context, modulation).mT
        )
        state.memory.commit(x.shape[1])
        # The original keeps the newest chunk first, and both convolutions side by side with time last.
        chunks = held(state.memory)[0].split([14, 10][:chunk], dim=3)
        assert_golden("golden_flow", f"ditchunk_att{chunk}", torch.cat(chunks[::-1], dim=3))
        assert_golden("golden_flow", f"ditchunk_cnn{chunk}", torch.cat(state.conv_past[0].unbind(1), dim=-1).mT)
