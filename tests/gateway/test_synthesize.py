"""`/synthesize`, as IndexTTS2's clients call it."""

import httpx
import pytest

from client.errors import ModelFailed
from gateway.voices import VoiceLibrary
from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.helpers import tone_wav, wav_seconds

pytestmark = pytest.mark.anyio
PATH = "/synthesize"


@pytest.mark.parametrize(
    ("style", "voice"),
    [
        ("style1", "story_teller"),
        ("style2", "happy_en"),
        ("style3", "whisper_cn"),
        ("style9", "story_teller"),
        (None, "story_teller"),
    ],
)
async def test_styles_are_built_in_voices(
    http: httpx.AsyncClient, backend: FakeBackend, style: str | None, voice: str
) -> None:
    form = {"text": "你好", **({"style": style} if style else {})}
    answer = await http.post(PATH, files={name: (None, value) for name, value in form.items()})
    assert answer.headers["content-type"] == "audio/wav"
    assert wav_seconds(answer.content) == SECONDS
    assert backend.jobs[0].prompt_text == VoiceLibrary().find(voice).prompt_text


async def test_an_own_recording_wins_over_the_style(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    form = {"text": "你好", "style": "style2", "prompt_text": "words"}
    answer = await http.post(PATH, data=form, files={"prompt_audio": ("a.wav", tone_wav(0.75), "audio/wav")})
    assert answer.status_code == 200
    assert (backend.jobs[0].clip.seconds, backend.jobs[0].prompt_text) == (0.75, "words")


async def test_sampling_reaches_the_model(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    await http.post(PATH, data={"text": "x"})
    await http.post(PATH, json={"text": "x", "temperature": 0.6, "top_p": 0.9, "top_k": 0, "max_mel_tokens": 9000})
    first, second = (job.sampling for job in backend.jobs)
    assert (first.temperature, first.top_p, first.top_k, first.max_tokens) == (0.8, 0.8, 30, 1500)
    assert (second.temperature, second.top_p, second.top_k, second.max_tokens) == (0.6, 0.9, 0, 3000)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"style": "style1"}, "Missing required parameter: text"),
        ({"text": " "}, "Missing required parameter: text"),
        ({"text": "x", "temperature": "warm"}, "temperature"),
        ({"text": "x", "top_p": "0"}, "top_p"),
        ({"text": "x", "top_k": "-1"}, "top_k"),
        ({"text": "x", "prompt_audio": "no base64!", "prompt_text": "x"}, "prompt_audio"),
    ],
)
async def test_faults_are_400_with_one_string(http: httpx.AsyncClient, form: dict[str, str], words: str) -> None:
    answer = await http.post(PATH, data=form)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert words in answer.json()["error"]


async def test_a_model_s_failure_is_500_with_one_string(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.failure = ModelFailed("it broke")
    answer = await http.post(PATH, data={"text": "x"})
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
