"""`/v1/audio/transcriptions` and `/asr` over a recogniser that says what it is told to."""

import asyncio
import json

import httpx
import numpy as np
import pytest

from client.errors import InvalidInput, ModelFailed, QueueFull, ServerUnavailable
from gateway.app import create_app
from gateway.settings import Settings
from tests.gateway.fake_recognizer import HELLO, FakeRecognizer, segment
from tests.gateway.helpers import SPEECH, assert_error, base64_wav, edit, tone_wav

pytestmark = pytest.mark.anyio

TRANSCRIPTIONS = "/v1/audio/transcriptions"
TEXT = "Hello there. How are you?"


@pytest.fixture
def recognizer():
    return FakeRecognizer()


@pytest.fixture
def app(backend, settings, recognizer):
    return create_app(settings, backend, recognizer)


@pytest.fixture
async def http(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def transcribe(http, wav=None, model="whisper-1", **fields):
    files = {"file": ("clip.wav", tone_wav(2.5) if wav is None else wav)}
    return await http.post(TRANSCRIPTIONS, files=files, data={"model": model, **fields})


def events(answer):
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [json.loads(block.removeprefix("data: ")) for block in answer.text.strip().split("\n\n")]


async def test_json_is_the_text_and_what_was_heard(http, recognizer):
    answer = await transcribe(http)
    assert answer.json() == {"text": TEXT, "usage": {"type": "duration", "seconds": 3}}
    assert answer.headers["x-stepaudio-model"] == "whisper-1"
    assert answer.headers["x-stepaudio-served-by"] == "TinyVoice"
    assert recognizer.languages == ["auto"]
    assert recognizer.pieces[0].sample_rate == 16_000
    assert len(recognizer.pieces[0].waveform) == 40_000


async def test_plain_formats(http):
    assert (await transcribe(http, response_format="text")).text == TEXT + "\n"
    srt = await transcribe(http, response_format="srt")
    assert srt.text == (
        "1\n00:00:00,100 --> 00:00:00,900\nHello there.\n\n2\n00:00:01,200 --> 00:00:02,000\nHow are you?\n\n"
    )
    vtt = await transcribe(http, response_format="vtt")
    assert vtt.headers["content-type"] == "text/vtt; charset=utf-8"
    assert vtt.text.startswith("WEBVTT\n\n00:00:00.100 --> 00:00:00.900\nHello there.\n\n")


@pytest.mark.parametrize(
    ("asked", "has"),
    [
        ({}, {"segments"}),
        ({"timestamp_granularities[]": "word"}, {"words"}),
        ({"timestamp_granularities[]": ["word", "segment"]}, {"words", "segments"}),
        ({"timestamp_granularities": ["word", "segment"]}, {"words", "segments"}),
    ],
)
async def test_verbose_json_has_the_times_asked_for(http, asked, has):
    body = (await transcribe(http, response_format="verbose_json", **asked)).json()
    assert set(body) == {"task", "language", "duration", "text", "usage"} | has
    assert (body["task"], body["language"], body["duration"], body["text"]) == ("transcribe", "english", 2.5, TEXT)
    if "words" in has:
        assert [word["word"] for word in body["words"]] == ["Hello", "there", "How", "are", "you"]
        assert body["words"][1]["end"] == pytest.approx(0.9)
    if "segments" in has:
        first = body["segments"][0]
        assert (first["id"], first["start"], first["end"], first["text"]) == (0, 0.1, 0.9, " Hello there.")
        assert (first["avg_logprob"], first["no_speech_prob"], first["tokens"]) == (-0.25, 0.1, [3, 4])
        assert (first["emotion"], first["events"], first["temperature"]) == ("neutral", [], 0.0)


async def test_diarized_json_has_one_speaker(http):
    body = (await transcribe(http, model="gpt-4o-transcribe-diarize", response_format="diarized_json")).json()
    assert [part["speaker"] for part in body["segments"]] == ["A", "A"]
    assert body["segments"][1] == {
        "type": "transcript.text.segment",
        "id": "seg_1",
        "start": 1.2,
        "end": 2.0,
        "text": " How are you?",
        "speaker": "A",
    }


async def test_a_stream_ends_with_the_whole_text(http):
    told = events(await transcribe(http, stream="true"))
    assert [event["type"] for event in told] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert "".join(event["delta"] for event in told[:2]) == told[2]["text"] == TEXT
    heard, said = 42, 5
    assert told[2]["usage"] == {
        "type": "tokens",
        "input_tokens": heard,
        "output_tokens": said,
        "total_tokens": heard + said,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
    }


async def test_a_stream_of_silence_has_only_an_end(http, recognizer):
    recognizer.found = ()
    assert [event["type"] for event in events(await transcribe(http, stream="true"))] == ["transcript.text.done"]


async def test_silence_is_no_text_in_every_format(http, recognizer):
    recognizer.found = ()
    assert (await transcribe(http)).json()["text"] == ""
    assert (await transcribe(http, response_format="srt")).text == ""
    assert (await transcribe(http, response_format="vtt")).text == "WEBVTT\n\n"
    assert (await transcribe(http, response_format="verbose_json")).json()["language"] == ""


async def test_pieces_are_done_side_by_side_and_told_in_order(http, recognizer):
    recognizer.places = [16_000, 24_000]
    recognizer.delays = [0.2, 0.0, 0.0]
    body = (await transcribe(http, response_format="verbose_json")).json()
    assert [round(len(piece.waveform) / 16_000, 2) for piece in recognizer.pieces] == [1.0, 0.5, 1.0]
    assert [part["start"] for part in body["segments"]] == pytest.approx([0.1, 1.2, 1.1, 2.2, 1.6, 2.7])
    assert body["text"] == " ".join([TEXT] * 3)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("", "auto"),
        ("en", "en"),
        ("zh-CN", "zh"),
        ("Cantonese", "yue"),
        ("JA", "ja"),
        ("ko_KR", "ko"),
        ("auto", "auto"),
    ],
)
async def test_languages_are_codes_locales_or_names(http, recognizer, given, code):
    assert (await transcribe(http, language=given)).status_code == 200
    assert recognizer.languages == [code]


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"language": "tlh"}, 400, "invalid_value", "language"),
        ({"response_format": "tape"}, 400, "invalid_value", "response_format"),
        ({"temperature": "2"}, 400, "invalid_value", "temperature"),
        ({"stream": "perhaps"}, 400, "invalid_value", "stream"),
        ({"timestamp_granularities[]": "letter"}, 400, "invalid_value", "timestamp_granularities[].0"),
        ({"model": "whisper-9"}, 404, "model_not_found", "model"),
    ],
)
async def test_bad_fields_are_named(http, fields, status, code, param):
    assert_error(await transcribe(http, **fields), status, code, param)


@pytest.mark.parametrize("wav", [b"", b"not audio at all", tone_wav(1.0)[:40]])
async def test_a_file_without_sound_is_refused(http, wav):
    assert_error(await transcribe(http, wav=wav), 400, "invalid_audio", "file")


async def test_a_recording_over_the_limit_is_refused(backend, settings, recognizer):
    app = create_app(settings.model_copy(update={"max_transcription_seconds": 2.0}), backend, recognizer)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        message = assert_error(await transcribe(http), 400, "invalid_audio", "file")
    assert "longer than 2 s" in message


async def test_what_is_missing_is_named(http):
    answer = await http.post(TRANSCRIPTIONS, data={"model": "whisper-1"}, files={"other": b"x"})
    assert_error(answer, 400, "missing_required_parameter", "file")
    answer = await http.post(TRANSCRIPTIONS, files={"file": tone_wav()})
    assert_error(answer, 400, "missing_required_parameter", "model")


async def test_translation_is_refused(http):
    answer = await http.post("/v1/audio/translations", files={"file": tone_wav()}, data={"model": "whisper-1"})
    assert "does not translate" in assert_error(answer, 400, "unsupported_operation")


async def test_an_absent_recogniser_is_named(http, recognizer):
    recognizer.loaded = False
    message = assert_error(await transcribe(http), 503, "service_unavailable")
    assert "speech_recognizer" in message
    answer = await http.post("/asr", files={"file": tone_wav()})
    assert (answer.status_code, answer.json()) == (503, {"error": "the model speech_recognizer is not loaded"})


async def test_a_gateway_without_recogniser_says_so(backend, settings):
    app = create_app(settings, backend)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        assert_error(await transcribe(http), 503, "service_unavailable")
        assert "whisper-1" not in [model["id"] for model in (await http.get("/v1/models")).json()["data"]]


async def test_failures_have_their_status(http, recognizer):
    recognizer.failure = QueueFull("queue full: 9 wait")
    assert_error(await transcribe(http), 429, "rate_limit_exceeded")
    recognizer.failure = InvalidInput("audio", "must last at least 0.1 s, lasts 0.050 s")
    assert "at least 0.1 s" in assert_error(await transcribe(http), 400, "invalid_audio", "file")
    recognizer.failure = ServerUnavailable("Request for unknown model")
    assert "speech_recognizer" in assert_error(await transcribe(http), 503, "service_unavailable")
    recognizer.failure = ModelFailed("broke")
    assert_error(await transcribe(http, stream="true"), 500, None)
    answer = await http.post("/asr/stream", files={"file": tone_wav()})
    assert (answer.status_code, answer.json()) == (500, {"error": "the model speech_recognizer failed: broke"})


async def test_a_failure_after_the_first_words_ends_the_stream_with_it(http, recognizer):
    recognizer.places, recognizer.failure, recognizer.failing_piece = [20_000], ModelFailed("broke"), 1
    recognizer.delays = [0.0, 0.1]
    told = events(await transcribe(http, stream="true"))
    assert [event.get("type") for event in told] == ["transcript.text.delta"] * 2 + [None]
    assert told[-1]["error"]["message"] == "the model speech_recognizer failed: broke"
    recognizer.pieces.clear()
    lines = (await http.post("/asr/stream", files={"file": tone_wav(2.5)})).text.splitlines()
    assert [list(json.loads(line)) for line in lines] == [["partial_text"], ["partial_text"], ["error"]]


async def test_models_lists_the_recogniser_and_says_what_it_is(http):
    listed = {model["id"]: model for model in (await http.get("/v1/models")).json()["data"]}
    assert listed["TinyVoice"]["description"] == "made up"
    assert listed["whisper-1"]["description"] == "alias of TinyVoice"
    assert (await http.get("/v1/models/gpt-4o-transcribe")).json()["owned_by"] == "FunAudioLLM"
    assert "description" not in listed["step-audio-editx"]


async def test_asr_gives_text_with_signs(http, recognizer):
    recognizer.found = (
        segment("你好。", 0, 1, emotion="happy", language="zh"),
        segment("再见。", 1, 2, emotion="happy", events=("laughter",), language="zh"),
    )
    for part in ("file", "audio"):
        answer = await http.post("/asr", files={part: tone_wav()})
        assert answer.json() == {"text": "你好。😀再见。😊"}


async def test_asr_stream_joins_to_the_text_of_asr(http, recognizer):
    recognizer.found = (*HELLO, segment(" Bye.", 3, 4, emotion="sad"))
    whole = (await http.post("/asr", files={"file": tone_wav()})).json()["text"]
    answer = await http.post("/asr/stream", files={"file": tone_wav()})
    assert answer.headers["content-type"] == "application/json"
    parts = [json.loads(line)["partial_text"] for line in answer.text.splitlines()]
    assert len(parts) == 4
    assert "".join(parts) == whole == TEXT + " Bye.😔"


@pytest.mark.parametrize(
    ("accept", "first"),
    [("application/x-ndjson", '{"partial_text": "Hello'), ("text/event-stream", 'data: {"partial_text": "Hello')],
)
async def test_asr_stream_has_the_form_that_accept_asks_for(http, accept, first):
    answer = await http.post("/asr/stream", files={"file": tone_wav()}, headers={"accept": accept})
    assert answer.headers["content-type"].startswith(accept)
    assert answer.text.startswith(first)


@pytest.mark.parametrize("path", ["/asr", "/asr/stream"])
async def test_asr_refuses_in_its_own_words(http, path):
    answer = await http.post(path, files={"other": b"x"})
    assert (answer.status_code, answer.json()) == (400, {"error": "No file uploaded"})
    answer = await http.post(path, files={"file": b"not audio"})
    assert answer.status_code == 400
    assert answer.json() == {"error": "file: it is damaged or in no known audio format"}


async def test_a_caller_who_leaves_stops_the_work(app, recognizer):
    recognizer.delays = [30.0]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        waiting = asyncio.create_task(http.post("/asr/stream", files={"file": tone_wav()}))
        while not recognizer.pieces:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert recognizer.cancelled == 1


async def test_recordings_wait_for_their_turn_or_are_refused(backend, tmp_path, recognizer):
    recognizer.delays = [0.3] * 9
    settings = Settings(decode_processes=0, custom_voices_dir=tmp_path, max_concurrent=1, max_waiting=1)
    transport = httpx.ASGITransport(create_app(settings, backend, recognizer))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        answers = await asyncio.gather(*(transcribe(http) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]


async def test_the_recogniser_is_closed_with_the_gateway(app, recognizer):
    async with app.router.lifespan_context(app):
        assert not recognizer.closed
    assert recognizer.closed


def test_a_long_recording_is_resampled_on_the_way(tmp_path):
    from gateway.audio import decode

    clip = decode(tone_wav(2.0, rate=44_100, channels=2), 3.0, 16_000)
    assert (clip.sample_rate, len(clip.waveform)) == (16_000, 32_000)
    spectrum = np.abs(np.fft.rfft(clip.waveform[8_000:24_000]))
    assert int(spectrum.argmax()) == 220


async def speak(http, backend, **body):
    answer = await http.post(SPEECH, json=body)
    return answer, backend.jobs[-1] if backend.jobs else None


async def test_a_clone_without_words_has_them_recognised(http, backend, recognizer):
    clip = {"prompt_audio_base64": base64_wav(seconds=2.0)}
    answer, job = await speak(http, backend, input="Good day.", step_audio=clip)
    assert answer.status_code == 200, answer.text
    assert (job.prompt_text, job.text) == (TEXT, "Good day.")
    assert len(recognizer.pieces) == 1
    assert "have been recognised" in answer.headers["x-stepaudio-warning"]
    assert "recognize;dur=" in answer.headers["server-timing"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_edit_without_words_has_them_recognised(http, backend, stream):
    answer, job = await speak(http, backend, stream=stream, **edit("emotion", edit_info="happy"))
    assert answer.status_code == 200, answer.text
    assert job.prompt_text == TEXT


@pytest.mark.parametrize("given", [edit("denoise"), edit("speed", edit_info="0.8x"), edit("vad", audio_text="x")])
async def test_nothing_is_recognised_where_no_words_are_needed(http, backend, recognizer, given):
    answer, _ = await speak(http, backend, **given)
    assert answer.status_code == 200, answer.text
    assert not recognizer.pieces


async def test_given_words_are_believed(http, backend, recognizer):
    answer, job = await speak(http, backend, **edit("emotion", edit_info="happy", audio_text="Quite so."))
    assert (answer.status_code, job.prompt_text, recognizer.pieces) == (200, "Quite so.", [])


async def test_a_clip_in_which_nothing_is_said_is_refused_and_logged(http, backend, recognizer, caplog):
    recognizer.found = ()
    answer, _ = await speak(http, backend, **edit("emotion", edit_info="happy"))
    assert_error(answer, 400, "audio_transcription_failed", "step_audio.audio_text")
    assert "Audio transcription failed" in caplog.text


@pytest.mark.parametrize("why", ["switched off", "not loaded"])
async def test_without_a_recogniser_words_are_required(backend, settings, recognizer, why):
    recognizer.loaded = why != "not loaded"
    settings = settings.model_copy(update={"auto_transcribe": why != "switched off"})
    transport = httpx.ASGITransport(create_app(settings, backend, recognizer))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        answer, _ = await speak(http, backend, **edit("emotion", edit_info="happy"))
        assert_error(answer, 400, "audio_text_required", "step_audio.audio_text")
        clip = {"prompt_audio_base64": base64_wav()}
        answer, _ = await speak(http, backend, input="x", step_audio=clip)
        assert_error(answer, 400, "prompt_text_required", "step_audio.prompt_text")
    assert not recognizer.pieces


async def test_openais_voices_need_no_words(http, recognizer):
    sent = {"files": {"audio_sample": tone_wav(2.0)}, "data": {"name": "Ann", "consent": "she said yes"}}
    answer = await http.post("/v1/audio/voices", **sent)
    assert answer.status_code == 200, answer.text
    voice = (await http.get(f"/v1/voices/{answer.json()['id']}")).json()
    assert voice["prompt_text"] == TEXT
    recognizer.loaded = False
    assert_error(await http.post("/v1/audio/voices", **sent), 400, "prompt_text_required", "prompt_text")
