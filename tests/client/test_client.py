import asyncio
import threading

import grpc
import numpy as np
import pytest

from client import Clip, Sampling, SpeechJob, StepAudioClient
from client.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    QueueFull,
    ServerUnavailable,
    SpeechError,
)
from client.speech import derived_seed
from client.triton import TritonSpeech
from tests.client.conftest import SECONDS, FakeTriton

CLIP = Clip(np.linspace(-0.5, 0.5, 16_000, dtype=np.float32), 16_000)
CLONE = SpeechJob("clone", CLIP, prompt_text="my words", text="说点什么")


def test_a_job_becomes_the_contracts_tensors(triton: FakeTriton) -> None:
    sampling = Sampling(temperature=0.5, top_k=3, top_p=0.75, repetition_aware=True, seed=2**40, max_tokens=100)
    job = SpeechJob("emotion", CLIP, "words", "", "happy", 1.5, sampling, "bnb")
    with StepAudioClient(triton.url) as client:
        result = client.synthesize(job)
    ((model, asked),) = triton.asked
    assert model == "step_audio_editx_bnb"
    np.testing.assert_array_equal(asked.pop("audio"), CLIP.waveform)
    assert len(asked.pop("cancel_id")) == 32
    assert asked == {
        "sample_rate": 16_000,
        "mode": "emotion",
        "prompt_text": "words",
        "edit_info": "happy",
        "intensity": 1.5,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.75,
        "repetition_aware": True,
        "seed": 2**40,
        "max_tokens": 100,
    }
    assert (result.clip.sample_rate, result.clip.seconds) == (24_000, SECONDS)
    assert (result.finish_reason, result.prompt_tokens, result.generated_tokens) == ("stop", 11, 22)
    assert list(result.stage_ms.values()) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_what_is_left_open_is_left_out(triton: FakeTriton) -> None:
    with StepAudioClient(triton.url) as client:
        client.synthesize(CLONE)
    assert set(triton.asked[0][1]) == {"audio", "sample_rate", "mode", "text", "prompt_text", "cancel_id"}
    assert triton.asked[0][1]["text"] == "说点什么"


def test_passes_feed_each_other(triton: FakeTriton) -> None:
    job = SpeechJob("style", CLIP, "words", edit_info="whisper", sampling=Sampling(seed=5))
    with StepAudioClient(triton.url) as client:
        result = client.synthesize(job, passes=2)
    first, second = (asked for _, asked in triton.asked)
    assert (len(first["audio"]), second["audio"].shape) == (16_000, (6_000,))
    assert (first["seed"], second["seed"], second["sample_rate"]) == (5, derived_seed(5, 1), 24_000)
    assert (result.prompt_tokens, result.generated_tokens, result.stage_ms["decode"]) == (22, 44, 12)


def test_variants_are_what_is_loaded(triton: FakeTriton) -> None:
    triton.loaded = ("step_audio_editx_base", "step_audio_editx_awq")
    with StepAudioClient(triton.url) as client:
        assert client.variants() == ("base", "awq")


@pytest.mark.parametrize(
    ("status", "message", "expected", "words"),
    [
        (
            "INVALID_ARGUMENT",
            "[request id: 7] in ensemble 'e', text: must not be blank",
            InvalidInput,
            "text: must not be blank",
        ),
        ("INVALID_ARGUMENT", "in ensemble 'e', llm_base: mode: unknown", InvalidInput, "mode: unknown"),
        ("INVALID_ARGUMENT", "in ensemble 'e', tokens: holds too many", ModelFailed, "tokens: holds too many"),
        ("INVALID_ARGUMENT", "[request id: <id_unknown>] unexpected shape", InvalidInput, "unexpected shape"),
        ("UNAVAILABLE", "in ensemble 'e', queue full: 64 wait", QueueFull, "queue full: 64 wait"),
        ("UNAVAILABLE", "Request for unknown model: has no available versions", ServerUnavailable, "versions"),
        ("NOT_FOUND", "Request for unknown model: 'x' is not found", ServerUnavailable, "unknown model"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded, "in time"),
        ("INTERNAL", "[request id: 1] Stub process 'flow_0_0' is not healthy.", ServerUnavailable, "not healthy"),
        (
            "INTERNAL",
            "Failed for execute the inference request. Model 'flow' is not ready.",
            ServerUnavailable,
            "not ready",
        ),
        (
            "INTERNAL",
            "in ensemble 'e', Failed to process the request(s) for model 'm', message: "
            "ValueError: see /srv/a/model.py\n\nAt:\n  /srv/x.py(3): f",
            ModelFailed,
            "ValueError: see …",
        ),
    ],
)
def test_failures_keep_their_meaning(
    triton: FakeTriton, status: str, message: str, expected: type[SpeechError], words: str
) -> None:
    triton.failure = (getattr(grpc.StatusCode, status), message)
    with StepAudioClient(triton.url) as client, pytest.raises(expected) as raised:
        client.synthesize(CLONE)
    assert words in str(raised.value)
    assert "/srv" not in str(raised.value)
    assert "request id" not in str(raised.value)


def test_no_server_is_unavailable_not_a_crash(nobody: str) -> None:
    with StepAudioClient(nobody) as client:
        with pytest.raises(ServerUnavailable):
            client.synthesize(CLONE)
        with pytest.raises(ServerUnavailable):
            client.variants()


def test_a_cancelled_call_is_withdrawn_from_the_engine(triton: FakeTriton) -> None:
    triton.hold = threading.Event()

    async def call_and_cancel() -> None:
        async with TritonSpeech(triton.url) as speech:
            call = asyncio.ensure_future(speech.synthesize(CLONE))
            await asyncio.to_thread(triton.arrived.wait, 5)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(call_and_cancel())
    assert triton.withdrawn.wait(5)
    (_, request), (model, withdrawal) = triton.asked
    assert model == "llm_base_unary"
    assert withdrawal == {"op": "cancel", "cancel_id": request["cancel_id"]}


def test_ready_follows_the_server(triton: FakeTriton, nobody: str) -> None:
    async def ready(url: str) -> bool:
        async with TritonSpeech(url) as speech:
            return await speech.ready()

    assert asyncio.run(ready(triton.url))
    assert not asyncio.run(ready(nobody))
    triton.loaded = ()
    assert not asyncio.run(ready(triton.url))
