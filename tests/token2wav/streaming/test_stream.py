"""Streams as they are served: length, bounds, independence, and how far they are from whole utterances."""

import numpy as np
import pytest
import torch

from python_backend.errors import InvalidInput
from python_backend.noise import gaussian
from python_backend.token2wav.streaming.chunks import Chunk, Chunker
from python_backend.token2wav.streaming.flow import Limits, StreamingFlow
from python_backend.token2wav.streaming.vocoder import VocoderStream, raised_cosine
from python_backend.token2wav.token2mel import MelRequest, TokenToMel
from python_backend.token2wav.torch_runtime import TorchRuntime
from tests.token2wav.streaming.voices import random_tokens, random_voice

SEED = 3
HOP = 480


@pytest.fixture(scope="module")
def quick_prompt(streaming):
    """One solver step: for tests of what goes where."""
    return streaming.prepare(*random_voice(groups=4), steps=1, guidance=0.7)


def mel_of(streaming, prompt, tokens, seed=SEED, limits=None):
    stream = streaming.open(prompt, seed, limits)
    return np.concatenate([streaming.push(stream, chunk) for chunk in Chunker().push(tokens, last=True)], axis=1)


def repeating_vocoder(mel, mel_length, noise, cached_source, cached_source_length):
    """Repeats the first mel band, so that a cross-fade of the same frame changes nothing."""
    assert mel_length[0] == mel.shape[1]
    waveform = np.repeat(mel[0], HOP)
    return waveform, waveform


def test_all_chunks_together_are_as_long_as_the_tokens_and_lie_where_they_belong(streaming, quick_prompt):
    random = np.random.default_rng(0)
    lengths = [1, 2, 3, 4, 5, 6, 7, 13, 14, 15, *random.integers(1, 130, 190)]
    for groups in lengths:
        tokens = random_tokens(groups, seed=groups)
        cuts = np.sort(random.integers(0, len(tokens) + 1, random.integers(0, 6)))
        chunker, stream = Chunker(), streaming.open(quick_prompt, SEED)
        audio = VocoderStream(repeating_vocoder, SEED)
        mels, waveforms = [], []
        parts = np.split(tokens, cuts)
        for part in parts:
            for chunk in chunker.push(part, last=part is parts[-1]):
                mels.append(streaming.push(stream, chunk))
                waveforms.append(audio.push(mels[-1], chunk.last))
        waveform = np.concatenate(waveforms)
        assert len(waveform) == 2880 * groups
        np.testing.assert_allclose(waveform, np.repeat(np.concatenate(mels, axis=1)[0], HOP), atol=1e-5)
        assert stream.nbytes == audio.nbytes == 0


def test_how_tokens_arrive_changes_nothing(streaming, quick_prompt):
    tokens = random_tokens(40)
    chunker, stream = Chunker(), streaming.open(quick_prompt, SEED)
    mels = []
    for index in range(len(tokens)):
        chunks = chunker.push(tokens[index : index + 1], last=index == len(tokens) - 1)
        mels += [streaming.push(stream, chunk) for chunk in chunks]
    assert np.array_equal(np.concatenate(mels, axis=1), mel_of(streaming, quick_prompt, tokens))


def test_state_has_its_full_size_from_the_start_and_is_freed_at_the_end(streaming, quick_prompt, config):
    stream = streaming.open(quick_prompt, SEED, Limits(encoder_context=60))
    size = stream.nbytes
    frames = 24 + 96 + 96  # prompt, context, one chunk
    estimator, encoder = config.estimator, config.encoder
    attention = estimator.depth * 2 * frames * estimator.num_heads * estimator.head_dim * 2
    convolutions = estimator.depth * 2 * 2 * 2 * estimator.hidden_size
    per_pair = (encoder.num_blocks + 2 * encoder.num_up_blocks) * 2 * encoder.output_size
    assert size == 4 * (attention + convolutions + (12 + 60 + 48) * per_pair + 6 * encoder.output_size)

    chunks = Chunker().push(random_tokens(16 * 12), last=True)
    for chunk in chunks[:-1]:
        streaming.push(stream, chunk)
        assert stream.nbytes == size
    assert stream.estimator.memory.filled == 24 + 96
    assert stream.encoder.lower.filled == 12 + 60
    streaming.push(stream, chunks[-1])
    assert stream.nbytes == 0
    with pytest.raises(InvalidInput, match="tokens: come after the stream's end"):
        streaming.push(stream, chunks[-1])


def test_streams_share_a_prompt_and_nothing_else(streaming, quick_prompt):
    texts = [random_tokens(31, seed=1), random_tokens(31, seed=2)]
    alone = [mel_of(streaming, quick_prompt, tokens, seed) for seed, tokens in enumerate(texts)]
    other = streaming.prepare(*random_voice(groups=7, seed=8), steps=1, guidance=0.7)
    third = mel_of(streaming, other, texts[0])

    chunks = [Chunker().push(tokens, last=True) for tokens in (*texts, texts[0])]
    streams = [streaming.open(prompt, seed) for prompt, seed in ((quick_prompt, 0), (quick_prompt, 1), (other, SEED))]
    together = [streaming.advance(streams, list(step)) for step in zip(*chunks, strict=True)]
    for row, expected in enumerate((*alone, third)):
        np.testing.assert_allclose(np.concatenate([step[row] for step in together], axis=1), expected, atol=2e-5)


def test_only_streams_and_chunks_that_fit_go_together(streaming, quick_prompt):
    tokens = random_tokens(6)
    unguided = streaming.prepare(*random_voice(groups=4), steps=1, guidance=0.0)
    streams = [streaming.open(quick_prompt, 0), streaming.open(unguided, 0)]
    with pytest.raises(ValueError, match="same steps and guidance"):
        streaming.advance(streams, [Chunk(tokens, last=True)] * 2)
    streams = [streaming.open(quick_prompt, 0), streaming.open(quick_prompt, 0)]
    with pytest.raises(ValueError, match="same number of frames"):
        streaming.advance(streams, [Chunk(tokens, last=True), Chunk(tokens, last=False)])
    assert mel_of(streaming, unguided, tokens).shape == (80, 36)


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (Chunk(random_tokens(1), last=False), "nothing but the look-ahead group"),
        (Chunk(random_tokens(18), last=False), "at most 85 are allowed"),
        (Chunk(random_tokens(17), last=True), "at most 80 are allowed"),
        (Chunk(random_tokens(2)[:-1], last=True), "whole groups of 5"),
    ],
)
def test_refused_chunks_leave_the_stream_as_it_was(streaming, quick_prompt, chunk, message):
    stream = streaming.open(quick_prompt, SEED)
    with pytest.raises(InvalidInput, match=f"tokens: .*{message}"):
        streaming.push(stream, chunk)
    tokens = random_tokens(3)
    mel = streaming.push(stream, Chunk(tokens, last=True))
    assert np.array_equal(mel, mel_of(streaming, quick_prompt, tokens))


def test_refused_prompts(streaming):
    tokens, mel, embedding = random_voice(groups=2)
    with pytest.raises(InvalidInput, match="prompt_mel"):
        streaming.prepare(tokens, mel[:5], embedding, 1, 0.7)
    with pytest.raises(InvalidInput, match="speaker_embedding"):
        streaming.prepare(tokens, mel, embedding[:5], 1, 0.7)


def test_vocoder_noise_is_that_of_the_whole_utterance():
    seen = []

    def vocoder(mel, mel_length, noise, cached_source, cached_source_length):
        seen.append(noise)
        return repeating_vocoder(mel, mel_length, noise, cached_source, cached_source_length)

    audio = VocoderStream(vocoder, SEED)
    for frames, last in ((30, False), (48, False), (18, True)):
        audio.push(np.zeros((80, frames), dtype=np.float32), last)
    whole = gaussian(SEED, "hift", 0, 96 * HOP)
    assert np.array_equal(seen[0], whole[: 30 * HOP])
    assert np.array_equal(seen[1], whole[22 * HOP : 78 * HOP])
    assert np.array_equal(seen[2], whole[70 * HOP :])


def test_chunks_shorter_than_the_overlap():
    mel = np.random.default_rng(0).normal(size=(80, 14)).astype(np.float32)
    audio = VocoderStream(repeating_vocoder, None)
    parts = [audio.push(mel[:, start : start + 2], last=start == 12) for start in range(0, 14, 2)]
    np.testing.assert_allclose(np.concatenate(parts), np.repeat(mel[0], HOP), atol=1e-6)


def test_cross_fade_sums_to_one():
    new, old = raised_cosine(3840)
    np.testing.assert_allclose(new + old, 1, atol=1e-7)
    assert (np.diff(new) >= 0).all()
    assert new[0] < 1e-6
    assert old[-1] < 1e-6


def test_mel_near_that_of_the_whole_utterance(streaming, runtime, config, capsys):
    """Random weights: only the order of magnitude means anything, and that seams are no worse than the rest."""
    voice, tokens = random_voice(groups=10), random_tokens(50)
    offline = TokenToMel(runtime, config).generate(MelRequest(tokens, *voice, seed=SEED)).mel
    streamed = mel_of(streaming, streaming.prepare(*voice, steps=10, guidance=0.7), tokens)
    difference = np.sqrt(np.square(streamed - offline).mean(axis=0))
    level = float(np.sqrt(np.square(offline - offline.mean()).mean()))
    seams = np.concatenate([np.arange(seam - 4, seam + 4) for seam in (30, 78, 174, 270)])
    at, away = difference[seams].mean() / level, np.delete(difference, seams).mean() / level
    with capsys.disabled():
        print(f"\nmel distance to offline, relative to its spread: {at:.4f} at seams, {away:.4f} elsewhere")
    assert at < 0.5
    assert away < 0.5


def test_bfloat16_blocks_stay_within_two_percent(streaming, exported, config):
    runtime = TorchRuntime.load(exported, torch.device("cpu"), torch.bfloat16)
    voice, tokens = random_voice(groups=4), random_tokens(30)
    halved = StreamingFlow(runtime.flow, config)
    prompts = [each.prepare(*voice, steps=10, guidance=0.7) for each in (streaming, halved)]
    exact, rounded = (mel_of(each, prompt, tokens) for each, prompt in zip((streaming, halved), prompts, strict=True))
    assert prompts[1].estimator.nbytes == prompts[0].estimator.nbytes // 2
    assert 0 < np.linalg.norm(rounded - exact) < 0.02 * np.linalg.norm(exact)


def test_seeded_noise_reaches_the_stream(streaming, quick_prompt):
    tokens = random_tokens(4)
    assert np.array_equal(mel_of(streaming, quick_prompt, tokens, 1), mel_of(streaming, quick_prompt, tokens, 1))
    assert not np.allclose(mel_of(streaming, quick_prompt, tokens, 1), mel_of(streaming, quick_prompt, tokens, 2))
    stream = streaming.open(quick_prompt, SEED)
    whole = torch.from_numpy(gaussian(SEED, "flow", 0, 54 * 80)).reshape(54, 80).numpy()
    assert np.array_equal(stream.noise(stream.position, 30), whole[24:])
