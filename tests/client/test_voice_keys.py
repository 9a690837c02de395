"""A clip crosses the wire once."""

import grpc
import numpy as np
import pytest

from client.client import StepAudioClient
from client.errors import InvalidInput, VoiceForgotten
from client.speech import Clip, SpeechJob
from client.voice_keys import CAPACITY, VoiceKeys
from tests.client.conftest import FakeTriton

KEY = "ab" * 32
CLIP = Clip(np.linspace(-1, 1, 24_000, dtype=np.float32), 24_000)
JOB = SpeechJob("clone", CLIP, "words", "text")
FORGOTTEN = "voice_key: this voice is not kept (any longer); send its clip"


def sent(triton: FakeTriton) -> list[str]:
    return [inputs.get("voice_key", "audio" if "audio" in inputs else "") for _, inputs in triton.asked]


def test_a_clip_is_sent_once_and_named_afterwards(triton: FakeTriton) -> None:
    triton.voice_key = KEY
    with StepAudioClient(triton.url) as client:
        first, second = client.synthesize(JOB), client.synthesize(JOB)
    assert sent(triton) == ["audio", KEY]
    assert "sample_rate" not in triton.asked[1][1]
    assert (first.cache_hit, second.cache_hit) == (False, True)


def test_another_clip_or_rate_is_sent(triton: FakeTriton) -> None:
    triton.voice_key = KEY
    with StepAudioClient(triton.url) as client:
        for clip in (CLIP, Clip(CLIP.waveform, 16_000), Clip(CLIP.waveform[1:], 24_000)):
            client.synthesize(SpeechJob("clone", clip, "words", "text"))
    assert sent(triton) == ["audio"] * 3


def test_a_forgotten_voice_is_sent_again(triton: FakeTriton) -> None:
    triton.voice_key = KEY
    with StepAudioClient(triton.url) as client:
        client.synthesize(JOB)
        triton.forgets = (grpc.StatusCode.NOT_FOUND, f"in ensemble 'step_audio_editx_base', {FORGOTTEN}")
        client.synthesize(JOB)
        triton.forgets = None
        client.synthesize(JOB)
    assert sent(triton) == ["audio", KEY, "audio", KEY]


def test_streams_name_voices_too(triton: FakeTriton) -> None:
    triton.loaded, triton.voice_key = (*triton.loaded, "step_audio_editx_stream"), KEY
    with StepAudioClient(triton.url) as client:
        for _ in range(2):
            parts = list(client.stream(JOB))
        triton.forgets = (grpc.StatusCode.NOT_FOUND, FORGOTTEN)
        again = list(client.stream(JOB))
    assert sent(triton) == ["audio", KEY, KEY, "audio"]
    assert sum(len(part.clip.waveform) for part in parts) == sum(len(part.clip.waveform) for part in again) > 0


def test_a_server_that_keeps_nothing_gets_every_clip(triton: FakeTriton) -> None:
    with StepAudioClient(triton.url) as client:
        client.synthesize(JOB)
        client.synthesize(JOB)
    assert sent(triton) == ["audio", "audio"]


def test_other_refusals_are_not_taken_for_a_forgotten_voice(triton: FakeTriton) -> None:
    triton.voice_key = KEY
    with StepAudioClient(triton.url) as client:
        client.synthesize(JOB)
        triton.failure = (grpc.StatusCode.INVALID_ARGUMENT, "text: too long")
        with pytest.raises(InvalidInput):
            client.synthesize(JOB)
    assert sent(triton) == ["audio", KEY]
    assert not issubclass(InvalidInput, VoiceForgotten)


def test_the_names_are_bounded() -> None:
    keys = VoiceKeys()
    names = [keys.name(Clip(np.full(10, number, np.float32), 16_000)) for number in range(CAPACITY + 1)]
    for name in names:
        keys.learn(name, KEY)
    assert keys.get(names[0]) is None
    assert keys.get(names[-1]) == KEY
