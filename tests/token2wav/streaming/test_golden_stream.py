"""Whole streams in parity mode against golden_stream.npz."""

import numpy as np
import pytest
import torch

from python_backend.token2wav.streaming.flow import Limits, StreamingFlow
from python_backend.token2wav.streaming.parity import OneChunkPerCall, RecordedNoise, hamming_halves
from python_backend.token2wav.streaming.vocoder import VocoderStream
from python_backend.token2wav.tokens import pairs
from tests.vocoder_golden import arrays, assert_golden, tail_filled

GOLDEN = arrays("golden_stream")
RAND_NOISE = arrays("golden_flow")["rand_noise"][0].T.contiguous().numpy()
FOREVER = 400
CONTEXT = Limits().estimator_context


@pytest.mark.parametrize("case", ["s1", "s2", "s3"])
def test_golden_stream(streaming, vocoder, config, case, monkeypatch):
    # The recording was made with embeddings that were not rounded through bfloat16.
    monkeypatch.setattr(StreamingFlow, "_rounded", lambda _self, embedding: torch.from_numpy(embedding)[None])
    prompt_tokens, prompt_mel, embedding, tokens = (
        GOLDEN[f"{case}_{name}"].numpy() for name in ("prompt_token", "prompt_feat", "embedding", "tokens")
    )
    prompt_tokens = prompt_tokens[0].astype(np.int32)
    tokens = tail_filled(tokens)
    prompt_frames = 6 * len(prompt_tokens) // 5
    noise = RecordedNoise(RAND_NOISE, prompt_frames + CONTEXT)
    prompt = streaming.prepare(
        prompt_tokens, prompt_mel[0].T, embedding[0], steps=10, guidance=0.7, lookahead=tokens[:5], noise=noise
    )
    limits = Limits(encoder_context=FOREVER, chunk_groups=FOREVER)
    stream = streaming.open(prompt, noise, limits)
    audio = VocoderStream(vocoder, seed=None, fade=hamming_halves)
    chunker = OneChunkPerCall()
    sent, pushed = 0, 0
    calls = []
    for count, last in GOLDEN[f"{case}_pushes"].tolist():
        stop = len(tokens) if last else pushed + count
        chunks = chunker.push(tokens[pushed:stop], bool(last))
        pushed += count
        samples = -1
        for chunk in chunks:
            name = f"{case}_chunk{sent}"
            given = pairs("tokens", chunk.tokens, config.vocab_size, FOREVER)
            assert np.array_equal(given, GOLDEN[f"{name}_token"][0])
            held = [stream.estimator.memory.filled, stream.encoder.upper.filled]
            assert held == GOLDEN[f"{name}_cache_len"].tolist()
            mel = streaming.push(stream, chunk)
            assert_golden("golden_stream", f"{name}_mel", torch.from_numpy(mel))
            waveform = audio.push(mel, chunk.last)
            source, f0 = vocoder.calls[-1]
            assert_golden("golden_stream", f"{name}_hift_f0", torch.from_numpy(f0))
            if f"{name}_source" in GOLDEN:
                assert_golden("golden_stream", f"{name}_source", torch.from_numpy(source))
            assert_golden("golden_stream", f"{name}_wav", torch.from_numpy(waveform))
            samples = len(waveform)
            sent += 1
        calls.append([count, last, samples])
    assert calls == GOLDEN[f"{case}_call_log"].tolist()
    assert sent == GOLDEN[f"{case}_n_chunks"]
    assert stream.nbytes == 0
    assert audio.nbytes == 0
