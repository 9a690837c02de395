import asyncio
import base64
import io

import av
import httpx
import numpy as np
import pytest
import soundfile

from client.speech import derived_seed
from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.helpers import SPEECH, base64_wav, edit, tone_wav, wav_seconds

pytestmark = pytest.mark.anyio


async def test_clone_speaks_the_input_with_the_default_voice(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    answer = await http.post(SPEECH, json={"input": "hello"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert wav_seconds(answer.content) == SECONDS
    (job,) = backend.jobs
    assert (job.mode, job.text, job.variant, job.intensity) == ("clone", "hello", "base", 1.0)
    assert job.prompt_text.startswith("楼下的灯")
    assert job.clip.sample_rate == 24_000
    assert 4 < job.clip.seconds < 6


@pytest.mark.parametrize("voice", ["happy_en", {"id": "happy_en"}])
async def test_voice_is_a_name_or_a_reference(http: httpx.AsyncClient, backend: FakeBackend, voice: object) -> None:
    assert (await http.post(SPEECH, json={"input": "hello", "voice": voice})).status_code == 200
    assert backend.jobs[0].prompt_text.startswith("Good morning!")


async def test_a_voices_own_transcript_wins(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    options = {"mode": "clone", "prompt_text": "something else", "intensity": 3.0}
    assert (await http.post(SPEECH, json={"input": "hello", "step_audio": options})).status_code == 200
    assert backend.jobs[0].prompt_text.startswith("楼下的灯")


@pytest.mark.parametrize("prefix", ["", "data:audio/wav;base64,"])
async def test_clone_takes_an_own_clip(http: httpx.AsyncClient, backend: FakeBackend, prefix: str) -> None:
    options = {"prompt_text": " my words ", "prompt_audio_base64": prefix + base64_wav(seconds=2.0, rate=44_100)}
    body = {"input": "hello", "voice": "happy_en", "step_audio": options}
    assert (await http.post(SPEECH, json=body)).status_code == 200
    (job,) = backend.jobs
    assert (job.prompt_text, job.clip.sample_rate, job.clip.seconds) == ("my words", 44_100, 2.0)


@pytest.mark.parametrize(
    ("mode", "options", "expected"),
    [
        ("emotion", {"edit_info": "Fearful", "audio_text": "words"}, ("fear", "words", "")),
        ("style", {"edit_info": "ACT COY", "audio_text": "words"}, ("act_coy", "words", "")),
        ("speed", {"edit_info": "more-faster", "audio_text": "words"}, ("more faster", "words", "")),
        ("paralinguistic", {"audio_text": "words"}, ("", "words", "new [Laughter] words")),
        ("denoise", {}, ("", "", "")),
        ("vad", {"audio_text": "unused"}, ("", "", "")),
    ],
)
async def test_each_edit_mode(
    http: httpx.AsyncClient, backend: FakeBackend, mode: str, options: dict[str, str], expected: tuple[str, str, str]
) -> None:
    answer = await http.post(SPEECH, json={"input": "new [Laughter] words", **edit(mode, **options)})
    assert answer.status_code == 200, answer.text
    assert "x-stepaudio-warning" not in answer.headers
    (job,) = backend.jobs
    assert job.mode == mode
    assert (job.edit_info, job.prompt_text, job.text) == expected


async def test_an_edit_falls_back_to_the_named_voice(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    options = {"mode": "emotion", "edit_info": "fear", "model_variant": "base", "intensity": 2.0}
    assert (await http.post(SPEECH, json={"voice": "happy_en", "input": "x", "step_audio": options})).status_code == 200
    assert backend.jobs[0].prompt_text.startswith("Good morning!")
    assert backend.jobs[0].intensity == 2.0


async def test_an_unlisted_tag_goes_to_the_model_with_a_warning(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    answer = await http.post(SPEECH, json=edit("style", edit_info="formal", audio_text="words"))
    assert backend.jobs[0].edit_info == "formal"
    assert "formal" in answer.headers["x-stepaudio-warning"]


async def test_passes_feed_each_other(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    body = {"input": "new words", **edit("paralinguistic", audio_text="words", n_edit_iter=3, seed=7)}
    answer = await http.post(SPEECH, json=body)
    first, second, third = backend.jobs
    assert [job.prompt_text for job in backend.jobs] == ["words", "new words", "new words"]
    assert (first.clip.seconds, second.clip.seconds) == (1.0, SECONDS)
    assert [job.sampling.seed for job in backend.jobs] == [7, derived_seed(7, 1), derived_seed(7, 2)]
    assert not np.array_equal(second.clip.waveform, third.clip.waveform)
    assert "prepare;dur=3.0" in answer.headers["server-timing"]


async def test_sampling_travels_to_the_model(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    sampling = {"seed": 3, "temperature": 0.5, "top_k": 20, "top_p": 0.9, "repetition_aware": True, "max_tokens": 50}
    assert (await http.post(SPEECH, json={"input": "hi", "step_audio": sampling})).status_code == 200
    job = backend.jobs[0].sampling
    assert {name: getattr(job, name) for name in sampling} == sampling


@pytest.mark.parametrize(
    ("asked", "loaded", "variant"),
    [
        (None, ("base",), "base"),
        (None, ("base", "bnb"), "bnb"),
        (None, ("awq",), "awq"),
        ("base", ("base", "bnb"), "base"),
    ],
)
async def test_variant(
    http: httpx.AsyncClient, backend: FakeBackend, asked: str | None, loaded: tuple[str, ...], variant: str
) -> None:
    backend.loaded = loaded
    answer = await http.post(SPEECH, json={"input": "hi", "step_audio": {"model_variant": asked}})
    assert answer.headers["x-stepaudio-variant"] == backend.jobs[0].variant == variant


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("wav", "audio/wav"),
        ("mp3", "audio/mpeg"),
        ("flac", "audio/flac"),
        ("opus", "audio/opus"),
        ("aac", "audio/aac"),
        ("pcm", "audio/pcm"),
    ],
)
async def test_every_format_decodes_to_the_same_tone(http: httpx.AsyncClient, name: str, content_type: str) -> None:
    answer = await http.post(SPEECH, json={"input": "hi", "response_format": name})
    assert answer.headers["content-type"] == content_type
    waveform, rate = _independently_decoded(answer.content, name)
    assert len(waveform) / rate == pytest.approx(SECONDS, abs=0.1 if name in ("mp3", "opus", "aac") else 1e-9)
    middle = waveform[int(0.1 * rate) : int(0.4 * rate)]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * rate / len(middle) == pytest.approx(300, abs=4)
    assert np.abs(middle).max() == pytest.approx(0.5, rel=0.15)


def _independently_decoded(body: bytes, name: str) -> tuple[np.ndarray, int]:
    if name == "pcm":
        return np.frombuffer(body, "<i2") / 32768, 24_000
    if name != "aac":
        waveform, rate = soundfile.read(io.BytesIO(body))
        return waveform, rate
    with av.open(io.BytesIO(body)) as file:  # libsndfile reads no AAC
        frames = [frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)]
        return np.concatenate(frames), file.streams.audio[0].rate


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({}, "audio/wav"),
        ({"model": "step-audio-editx"}, "audio/wav"),
        ({"model": "tts-1", "voice": "alloy"}, "audio/mpeg"),
        ({"model": "tts-1", "step_audio": {}}, "audio/wav"),
        ({"model": "tts-1", "response_format": "flac"}, "audio/flac"),
    ],
)
async def test_default_format(http: httpx.AsyncClient, body: dict[str, object], content_type: str) -> None:
    answer = await http.post(SPEECH, json={"input": "hi", **body})
    assert answer.headers["content-type"] == content_type


async def test_loud_speech_is_clipped_not_wrapped(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.amplitude = 2.0
    answer = await http.post(SPEECH, json={"input": "hi", "response_format": "pcm"})
    samples = np.frombuffer(answer.content, "<i2")
    assert (samples.max(), samples.min()) == (32767, -32767)
    assert np.abs(np.diff(samples.astype(int))).max() < 6000


async def test_numeric_speed_needs_no_model_and_no_transcript(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    answer = await http.post(SPEECH, json=edit("speed", edit_info="0.8x"))
    assert wav_seconds(answer.content) == pytest.approx(1.25)
    assert not backend.jobs
    assert "x-stepaudio-variant" not in answer.headers


async def test_openais_speed_stretches_the_result(http: httpx.AsyncClient) -> None:
    answer = await http.post(SPEECH, json={"input": "hi", "speed": 2})
    assert wav_seconds(answer.content) == pytest.approx(SECONDS / 2)


async def test_metadata_comes_back_in_headers(http: httpx.AsyncClient) -> None:
    metadata = {"trace_id": "demo", "who": "张三", "n": 7, "ok": True, "none": None, "a b": "x", "crlf": "a\r\nb: c"}
    answer = await http.post(SPEECH, json={"input": "hi", "model": "tts-1", "metadata": metadata})
    headers = answer.headers
    assert headers["x-stepaudio-model"] == "tts-1"
    assert headers["x-metadata-trace_id"] == "demo"
    assert headers["x-metadata-who"] == "%E5%BC%A0%E4%B8%89"
    assert (headers["x-metadata-n"], headers["x-metadata-ok"], headers["x-metadata-none"]) == ("7", "true", "")
    assert headers["x-metadata-a%20b"] == "x"
    assert headers["x-metadata-crlf"] == "a%0D%0Ab:%20c"
    assert headers["x-stepaudio-sample-rate"] == "24000"


async def test_speech_that_hit_its_budget_says_so(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.finish_reason = "length"
    answer = await http.post(SPEECH, json={"input": "hi"})
    assert "cut" in answer.headers["x-stepaudio-warning"]


async def test_requests_are_served_side_by_side(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.delay = 0.3
    started = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(http.post(SPEECH, json={"input": "hi"}) for _ in range(8)))
    assert asyncio.get_running_loop().time() - started < 1.5
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize(("rate", "expected"), [(8_000, 16_000), (11_025, 16_000), (16_000, 16_000), (48_000, 48_000)])
async def test_low_rates_are_raised(http: httpx.AsyncClient, backend: FakeBackend, rate: int, expected: int) -> None:
    body = {"step_audio": {"mode": "denoise", "input_audio_base64": base64_wav(rate=rate)}}
    assert (await http.post(SPEECH, json=body)).status_code == 200
    assert backend.jobs[0].clip.sample_rate == expected
    assert backend.jobs[0].clip.seconds == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("channels", [2, 6, 8, 12])
async def test_channels_are_averaged(http: httpx.AsyncClient, backend: FakeBackend, channels: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.tile([0.5, -0.1], (24_000, channels // 2)), 24_000, format="WAV", subtype="FLOAT")
    clip = base64.b64encode(file.getvalue()).decode()
    await http.post(SPEECH, json={"step_audio": {"mode": "denoise", "input_audio_base64": clip}})
    np.testing.assert_allclose(backend.jobs[0].clip.waveform, 0.2, atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
async def test_samples_arrive_exactly(http: httpx.AsyncClient, backend: FakeBackend, subtype: str) -> None:
    wav = tone_wav(subtype=subtype)
    clip = base64.b64encode(wav).decode()
    await http.post(SPEECH, json={"step_audio": {"mode": "denoise", "input_audio_base64": clip}})
    np.testing.assert_array_equal(backend.jobs[0].clip.waveform, soundfile.read(io.BytesIO(wav), dtype="float32")[0])


async def test_instructions_that_name_a_manner_run_an_edit(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    answer = await http.post(
        SPEECH, json={"input": "hello", "instructions": "Sound really Fearful, please.", "model": "tts-1"}
    )
    cloned, edited = backend.jobs
    assert (cloned.mode, cloned.text) == ("clone", "hello")
    assert (edited.mode, edited.edit_info, edited.prompt_text, edited.text) == ("emotion", "fear", "hello", "")
    assert edited.clip.seconds == SECONDS
    assert edited.sampling.seed == derived_seed(0, 1)
    assert "emotion fear" in answer.headers["x-stepaudio-warning"]


async def test_other_instructions_are_not_used(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    answer = await http.post(
        SPEECH, json={"input": "hello", "instructions": "Remove nothing; speak up.", "model": "tts-1"}
    )
    assert len(backend.jobs) == 1
    assert "not used" in answer.headers["x-stepaudio-warning"]
