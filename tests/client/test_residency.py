"""Speech models leave the server's memory on request and come back when they are needed."""

import pytest

import client.residency
from client.errors import ServerUnavailable, SpeechError
from client.triton import TritonSpeech
from tests.client.conftest import FakeTriton

pytestmark = pytest.mark.anyio
SPEECH = ["vocoder", "llm_base", "flow", "llm_base_unary", "step_audio_editx_base", "voice_encoder"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def full(triton: FakeTriton) -> FakeTriton:
    triton.loaded = tuple(SPEECH)
    triton.states = dict.fromkeys([*SPEECH, "speech_recognizer"], ("READY", ""))
    triton.states["llm_awq"] = ("", "")  # in the repository, and never loaded
    return triton


async def test_callers_leave_before_what_they_call(full: FakeTriton) -> None:
    full.unloads_within = 2
    async with TritonSpeech(full.url) as speech:
        await speech.offload()
    assert [name for _, name in full.moved] == [
        "step_audio_editx_base",
        "llm_base_unary",
        "llm_base",
        "flow",
        "vocoder",
        "voice_encoder",
    ]
    assert full.states["speech_recognizer"] == ("READY", "")
    assert {full.states[name][0] for name in SPEECH} == {"UNAVAILABLE"}, "it waits until they are gone"


async def test_they_come_back_for_the_next_request_in_the_other_order(full: FakeTriton) -> None:
    async with TritonSpeech(full.url) as speech:
        assert await speech.variants() == ("base",)
        await speech.offload()
        assert await speech.resident() == ()
        assert await speech.ready(), "it can serve whoever asks"
        gone = [name for _, name in full.moved]
        full.moved.clear()
        assert await speech.variants() == ("base",)
    assert full.moved == [("load", name) for name in reversed(gone)]


async def test_another_gateway_s_offload_is_noticed(full: FakeTriton) -> None:
    async with TritonSpeech(full.url) as one:
        await one.offload()
    async with TritonSpeech(full.url) as other:
        assert await other.variants() == ("base",)


async def test_what_was_never_loaded_is_not_loaded(full: FakeTriton) -> None:
    full.loaded, full.states = (), {"step_audio_editx_base": ("UNAVAILABLE", "its files are damaged"), "flow": ("", "")}
    async with TritonSpeech(full.url) as speech:
        assert await speech.variants() == ()
        assert not await speech.ready()
    assert not full.moved


async def test_models_that_do_not_let_go_are_named(full: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.residency, "_UNLOAD_SECONDS", 0.05)
    full.unloads_within = 1000
    async with TritonSpeech(full.url) as speech:
        with pytest.raises(ServerUnavailable, match="llm_base"):
            await speech.offload()


async def test_nobody_there_is_an_error_of_ours(nobody: str) -> None:
    async with TritonSpeech(nobody) as speech:
        with pytest.raises(SpeechError):
            await speech.offload()
        assert not await speech.ready()
