"""Requests made up from the OpenAPI document, for every operation: no 5xx, and no answer it does not describe."""

import tempfile
from pathlib import Path

import httpx
import hypothesis
import pytest
import schemathesis

from gateway.app import create_app
from gateway.fetch import Fetcher
from gateway.openapi import SPEECH_EXAMPLES
from gateway.settings import Settings
from tests.gateway.conftest import FakeBackend
from tests.gateway.fake_recognizer import FakeRecognizer
from tests.gateway.helpers import SPEECH, tone_wav
from tests.gateway.neighbours import FakeEmbedder, FakeTritonChat, fakes


class Forgetful(list):
    """Where the double of the backend keeps the jobs of thousands of requests: nowhere."""

    def append(self, _: object) -> None:
        pass


_FOLDER = tempfile.TemporaryDirectory()
_SETTINGS = Settings(
    max_body_bytes=2_000_000, decode_processes=0, custom_voices_dir=Path(_FOLDER.name), max_custom_voices=5
)
_NEIGHBOURS = fakes(FakeTritonChat(), FakeEmbedder())
_APP = create_app(_SETTINGS, FakeBackend(jobs=Forgetful()), FakeRecognizer(), _NEIGHBOURS)
_DOCUMENT = schemathesis.openapi.from_asgi("/openapi.json", _APP)


# A clip that decodes, a text the mode needs: what no schema can say makes valid requests fail, rightly.
_CHECKS = {"excluded_checks": [schemathesis.checks.CHECKS.get_one("positive_data_acceptance")]}


def _settings(cases: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@_DOCUMENT.parametrize()
@_settings(40)
def test_answers_are_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(**_CHECKS)


@pytest.mark.full
@_DOCUMENT.parametrize()
@_settings(1000)
def test_answers_are_as_documented_thousands(case: schemathesis.Case) -> None:
    case.call_and_validate(**_CHECKS)


@pytest.mark.anyio
@pytest.mark.parametrize("name", SPEECH_EXAMPLES)
async def test_every_example_works(http: httpx.AsyncClient, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(_: Fetcher, url: str) -> bytes:
        assert url == "https://example.org/recording.wav"
        return tone_wav()

    monkeypatch.setattr(Fetcher, "fetch", fetch)
    answer = await http.post(SPEECH, json=SPEECH_EXAMPLES[name]["value"])
    assert answer.status_code == 200, answer.text
    assert "x-stepaudio-warning" not in answer.headers
