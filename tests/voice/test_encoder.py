"""The whole voice side with the three networks in ONNX Runtime, and its orchestration with stand-ins."""

import threading
import time

import numpy as np
import pytest

from export import linguistic_tokenizer, semantic_tokenizer, speaker_encoder
from export.checkpoint import Checkpoint
from export.demo.speaker import write_speaker
from python_backend.errors import InvalidInput, RequestError
from python_backend.voice.clip import limit_peak
from python_backend.voice.encoder import VoiceEncoder
from python_backend.voice.mel import MEL_RATE, log_mel, round_to_bfloat16
from python_backend.voice.resample import resample
from tests.tokenizer_golden import CHECKPOINT, CLIPS, arrays, session, source


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The golden tokenizers and a random speaker encoder."""
    folder = tmp_path_factory.mktemp("voice")
    write_speaker(folder, "demo", 0)
    sessions = {}
    for module, checkpoint in (
        (linguistic_tokenizer, CHECKPOINT),
        (semantic_tokenizer, CHECKPOINT),
        (speaker_encoder, Checkpoint.open(folder)),
    ):
        module.export(checkpoint, folder)
        sessions[module.__name__.removeprefix("export.")] = session(folder / "model.onnx")

    def call(model, inputs, outputs):
        return dict(zip(outputs, sessions[model].run(outputs, inputs), strict=True))

    encoder = VoiceEncoder(call)
    yield encoder
    encoder.close()


@pytest.mark.parametrize("name", CLIPS)
def test_golden_clips_give_the_original_s_tokens(encoder, name):
    waveform, rate = source(name)
    voice = encoder.encode(waveform, rate, dither=0.0)
    assert "".join(f"<audio_{token}>" for token in voice.prompt_tokens) == str(arrays(name)["token_str"])
    assert voice.prompt_tokens.dtype == np.int32
    expected = round_to_bfloat16(log_mel(resample(limit_peak(waveform), rate, MEL_RATE)))
    np.testing.assert_array_equal(voice.prompt_mel, expected)
    assert voice.speaker_embedding.shape == (192,)
    assert voice.stage_ms.dtype == np.float32
    assert (voice.stage_ms > 0).all()


def test_dither_is_on_unless_refused(encoder):
    waveform, rate = source("espeak_4s")
    default, on, off = (encoder.encode(waveform, rate, *dither).prompt_tokens for dither in ((), (1.0,), (0.0,)))
    np.testing.assert_array_equal(default, on)
    assert not np.array_equal(on, off)


@pytest.mark.parametrize("rate", [16_000, 44_100, 192_000])
@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_silence_and_short_clips_are_encoded_like_any_other(encoder, rate, seconds):
    for level in (0.0, 0.5):
        voice = encoder.encode(np.full(round(seconds * rate), level, np.float32), rate)
        assert len(voice.prompt_tokens) >= 10
        assert len(voice.prompt_tokens) % 5 == 0
        assert np.isfinite(voice.speaker_embedding).all()
        assert np.isfinite(voice.prompt_mel).all()


def test_a_minute_of_sound_is_encoded_whole(encoder):
    waveform = np.random.default_rng(0).standard_normal(60 * 16_000).astype(np.float32) * 0.1
    voice = encoder.encode(waveform, 16_000)
    # 0.05 s of zeros before and 0.22 s after it: 60.27 s at 16.67 and at 25 codes per second
    assert len(voice.prompt_tokens) == 5 * (1004 // 2)
    assert voice.prompt_mel.shape == (80, 3000)


def test_clips_encoded_at_the_same_time_keep_apart(encoder):
    names = [name for name in CLIPS if len(source(name)[0]) < 200_000]
    alone = [encoder.encode(*source(name)).prompt_tokens for name in names]
    together = [None] * len(names)

    def encode(i):
        together[i] = encoder.encode(*source(names[i])).prompt_tokens

    threads = [threading.Thread(target=encode, args=(i,)) for i in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


class Stub:
    """Answers like the networks, notes what it was asked, and can wait until several calls are under way."""

    def __init__(self, together=1, embedding=1.0, fail=None):
        self.calls = []
        self.barrier = threading.Barrier(together)
        self.embedding, self.fail = embedding, fail

    def __call__(self, model, inputs, outputs):
        self.calls.append((model, inputs))
        self.barrier.wait(timeout=10)
        if model == self.fail:
            raise RequestError(f"{model}: broken")
        answers = {
            "codes": np.zeros((1, 9), np.int32),
            "codes_length": np.array([[6]], np.int32),
            "speaker_embedding": np.full((1, 192), self.embedding, np.float32),
        }
        return {name: answers[name] for name in outputs}

    def lengths(self, model):
        return sorted(int(inputs["audio_length"][0, 0]) for name, inputs in self.calls if name == model)


@pytest.fixture
def encode():
    encoders = []

    def run(stub, waveform, rate=16_000, **options):
        encoders.append(VoiceEncoder(stub))
        return encoders[-1].encode(waveform, rate, **options)

    yield run
    for encoder in encoders:
        encoder.close()


def test_all_networks_work_at_the_same_time(encode):
    stub = Stub(together=5)  # linguistic, speaker and three pieces for semantic: none returns before all were called
    encode(stub, np.full(60 * 16_000, 0.5, np.float32))
    assert len(stub.calls) == 5


def test_audio_is_padded_to_whole_seconds_with_its_length_beside_it(encode):
    stub = Stub()
    encode(stub, np.full(20_000, 0.5, np.float32), dither=0.25)
    assert {model for model, _ in stub.calls} == {"linguistic_tokenizer", "semantic_tokenizer", "speaker_encoder"}
    for model, inputs in stub.calls:
        assert inputs["audio"].shape == (1, 32_000)
        length = inputs["audio_length"][0, 0]
        assert not inputs["audio"][0, length:].any()
        assert length == (20_000 if model == "speaker_encoder" else 24_480)
        if model == "linguistic_tokenizer":
            np.testing.assert_array_equal(inputs["dither"], np.array([[0.25]], np.float32))


@pytest.mark.parametrize(
    ("samples", "pieces"),
    [(475_680, [480_000]), (475_920, [480_000]), (476_160, [480, 480_000]), (480_000, [4320, 480_000])],
)
def test_long_clips_are_tokenized_in_pieces_of_30_s_without_a_tail_below_30_ms(encode, samples, pieces):
    stub = Stub()
    encode(stub, np.full(samples, 0.5, np.float32))
    assert stub.lengths("semantic_tokenizer") == pieces
    assert stub.lengths("linguistic_tokenizer") == [samples + 4320]


def test_only_the_codes_that_count_become_tokens(encode):
    assert len(encode(Stub(), np.full(16_000, 0.5, np.float32)).prompt_tokens) == 10


@pytest.mark.parametrize("model", ["linguistic_tokenizer", "semantic_tokenizer", "speaker_encoder"])
def test_a_failing_network_fails_the_clip_in_its_own_words(encode, model):
    with pytest.raises(RequestError, match=f"^{model}: broken$"):
        encode(Stub(fail=model), np.full(16_000, 0.5, np.float32))


def test_a_speaker_embedding_that_is_not_finite_is_refused(encode):
    with pytest.raises(InvalidInput, match=r"^audio: .*speaker embedding"):
        encode(Stub(embedding=np.nan), np.full(16_000, 0.5, np.float32))


@pytest.mark.parametrize("dither", [-0.1, 1.5, float("nan")])
def test_dither_out_of_range_is_refused(encode, dither):
    with pytest.raises(InvalidInput, match=r"^dither: "):
        encode(Stub(), np.full(16_000, 0.5, np.float32), dither=dither)


def test_a_bad_clip_reaches_no_network(encode):
    stub = Stub()
    with pytest.raises(InvalidInput, match=r"^audio: "):
        encode(stub, np.zeros(160, np.float32))
    assert stub.calls == []


def test_stage_times_are_those_of_the_stages(encode):
    class Slow(Stub):
        def __call__(self, model, inputs, outputs):
            time.sleep({"linguistic_tokenizer": 0.05, "semantic_tokenizer": 0.1, "speaker_encoder": 0.2}[model])
            return super().__call__(model, inputs, outputs)

    _, linguistic, semantic, speaker = encode(Slow(), np.full(16_000, 0.5, np.float32)).stage_ms
    assert linguistic >= 50
    assert semantic >= 100
    assert speaker >= 200
