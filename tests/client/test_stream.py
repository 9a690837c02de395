"""Speech in parts, against a stand-in for Triton."""

import asyncio
import threading
from contextlib import aclosing

import grpc
import numpy as np
import pytest

from client import Clip, Sampling, SpeechJob, SpeechResult, StepAudioClient
from client.errors import DeadlineExceeded, InvalidInput, ModelFailed, QueueFull, ServerUnavailable, SpeechError
from client.speech import derived_seed
from client.triton import STREAM, TritonSpeech
from tests.client.conftest import PARTS, TONE, FakeTriton

CLIP = Clip(np.linspace(-0.5, 0.5, 16_000, dtype=np.float32), 16_000)
CLONE = SpeechJob("clone", CLIP, prompt_text="my words", text="说点什么", variant="bnb")


@pytest.fixture
def triton(triton: FakeTriton) -> FakeTriton:
    triton.loaded = (STREAM, "step_audio_editx_bnb")
    return triton


def test_speech_comes_in_parts_and_the_last_counts_all_of_it(triton: FakeTriton) -> None:
    with StepAudioClient(triton.url) as client:
        *parts, last = client.stream(CLONE)
    assert [part.finish_reason for part in parts] == [""] * PARTS
    np.testing.assert_array_equal(np.concatenate([part.clip.waveform for part in parts]), TONE)
    assert (last.finish_reason, last.prompt_tokens, last.generated_tokens) == ("stop", 11, 22)
    assert last.stage_ms["vocoder"] == 9
    assert len(last.clip.waveform) == 0
    ((model, asked),) = triton.asked
    np.testing.assert_array_equal(asked.pop("audio"), CLIP.waveform)
    assert model == STREAM
    assert asked == {
        "sample_rate": 16_000,
        "mode": "clone",
        "text": "说点什么",
        "prompt_text": "my words",
        "variant": "bnb",
    }


def test_parts_come_before_the_rest_is_made(triton: FakeTriton) -> None:
    triton.hold = threading.Event()
    with StepAudioClient(triton.url) as client:
        parts = client.stream(CLONE)
        assert len(next(parts).clip.waveform) == len(TONE) / PARTS
        assert not triton.stream_ended.is_set()
        triton.hold.set()
        assert len(list(parts)) == PARTS


def test_only_the_last_pass_streams(triton: FakeTriton) -> None:
    job = SpeechJob("style", CLIP, "words", edit_info="whisper", sampling=Sampling(seed=5), variant="bnb")
    with StepAudioClient(triton.url) as client:
        *_, last = client.stream(job, passes=2)
    assert [model for model, _ in triton.asked] == ["step_audio_editx_bnb", STREAM]
    assert triton.asked[1][1]["seed"] == derived_seed(5, 1)
    np.testing.assert_array_equal(triton.asked[1][1]["audio"], TONE)
    assert (last.prompt_tokens, last.stage_ms["decode"]) == (22, 12)


def test_without_a_streaming_model_all_comes_as_one_part(triton: FakeTriton) -> None:
    triton.loaded = ("step_audio_editx_bnb",)
    with StepAudioClient(triton.url) as client:
        (whole,) = client.stream(CLONE)
    np.testing.assert_array_equal(whole.clip.waveform, TONE)
    assert whole.finish_reason == "stop"


def test_leaving_the_loop_withdraws_the_rest(triton: FakeTriton) -> None:
    triton.hold = threading.Event()
    with StepAudioClient(triton.url) as client:
        for _ in client.stream(CLONE):
            break
        assert triton.stream_ended.wait(5)


def test_a_cancelled_task_withdraws_the_rest(triton: FakeTriton) -> None:
    triton.hold = threading.Event()

    async def listen_and_cancel() -> None:
        async def listen(speech: TritonSpeech) -> None:
            async with aclosing(speech.stream(CLONE)) as parts:
                async for _ in parts:
                    pass

        async with TritonSpeech(triton.url) as speech:
            task = asyncio.ensure_future(listen(speech))
            await asyncio.to_thread(triton.arrived.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(triton.stream_ended.wait, 5)

    asyncio.run(listen_and_cancel())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("message", "expected", "words"),
    [
        ("[request id: 7] text: must not be blank", InvalidInput, "text: must not be blank"),
        ("llm_base: queue full: 64 wait", QueueFull, "queue full: 64 wait"),
        ("Request for unknown model: 'x' is not found", ServerUnavailable, "unknown model"),
        ("Stub process 'step_audio_editx_stream_0_0' is not healthy.", ServerUnavailable, "not healthy"),
        ("flow: mel: went wrong at /srv/a/b.py", ModelFailed, "went wrong at …"),
    ],
)
def test_failures_keep_their_meaning_without_a_status(
    triton: FakeTriton, message: str, expected: type[SpeechError], words: str, late: bool
) -> None:
    triton.failure, triton.fails_late = (grpc.StatusCode.UNKNOWN, message), late
    parts: list[SpeechResult] = []
    with StepAudioClient(triton.url) as client, pytest.raises(expected) as raised:
        parts.extend(client.stream(CLONE))
    assert words in str(raised.value)
    assert len(parts) == late


def test_a_stream_without_its_account_has_failed(triton: FakeTriton) -> None:
    triton.complete = False
    with StepAudioClient(triton.url) as client, pytest.raises(ModelFailed):
        list(client.stream(CLONE))


def test_silence_after_the_first_part_is_a_failure(triton: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.triton._SILENCE_SECONDS", 0.2)
    triton.hold = threading.Event()
    with StepAudioClient(triton.url) as client, pytest.raises(DeadlineExceeded):
        list(client.stream(CLONE))
    assert triton.stream_ended.wait(5)


def test_no_server_is_unavailable(nobody: str) -> None:
    with StepAudioClient(nobody) as client, pytest.raises(ServerUnavailable):
        next(client.stream(CLONE))


def test_a_hundred_streams_leave_no_thread_behind(triton: FakeTriton) -> None:
    with StepAudioClient(triton.url) as client:
        next(client.stream(CLONE))
        before = threading.active_count()
        for _ in range(100):
            next(client.stream(CLONE))
        assert threading.active_count() <= before + 4  # the stand-in's own pool
