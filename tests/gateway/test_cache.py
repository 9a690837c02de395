"""What is said about the voice cache and about what was done."""

import re

import httpx
import pytest

from client.errors import ServerUnavailable
from tests.gateway.conftest import FakeBackend
from tests.gateway.helpers import SPEECH, assert_error, base64_wav, edit

pytestmark = pytest.mark.anyio
LINE = re.compile(r"\[\d\d:\d\d:\d\d\] \S.*")


async def test_the_state_has_the_contracts_fields(http: httpx.AsyncClient) -> None:
    state = (await http.get("/v1/cache")).json()
    assert set(state) == {
        "enabled",
        "hits",
        "misses",
        "total_requests",
        "hit_rate",
        "cache_size",
        "max_size",
        "time_saved_estimate",
    }
    assert state["max_size"] == 1000


async def test_clearing_answers_with_the_state_after_it(http: httpx.AsyncClient) -> None:
    await http.post(SPEECH, json={"input": "hi"})
    assert (await http.get("/v1/cache")).json()["cache_size"] == 1
    assert (await http.delete("/v1/cache")).json()["cache_size"] == 0


async def test_a_cache_that_cannot_be_reached_is_503(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.failure = ServerUnavailable("gone")
    assert_error(await http.get("/v1/cache"), 503, "service_unavailable")
    assert_error(await http.delete("/v1/cache"), 503, "service_unavailable")


async def test_a_header_says_whether_the_voice_was_known(http: httpx.AsyncClient) -> None:
    said = [(await http.post(SPEECH, json={"input": "hi", "voice": "happy_en"})).headers for _ in range(2)]
    assert [headers["x-stepaudio-cache"] for headers in said] == ["miss", "hit"]
    streamed = await http.post(SPEECH, json={"input": "hi", "voice": "happy_en", "stream": True})
    assert streamed.headers["x-stepaudio-cache"] == "hit"
    stretched = await http.post(SPEECH, json=edit("speed", edit_info="0.8x"))
    assert "x-stepaudio-cache" not in stretched.headers, "no voice was asked for"


async def test_of_several_passes_the_first_clip_counts(http: httpx.AsyncClient) -> None:
    again = edit("emotion", edit_info="happy", audio_text="words", n_edit_iter=3)
    for expected in ("miss", "hit"):
        assert (await http.post(SPEECH, json=again)).headers["x-stepaudio-cache"] == expected


async def test_the_log_tells_beginnings_ends_and_failures(http: httpx.AsyncClient) -> None:
    await http.post(SPEECH, json={"input": "secret words", "step_audio": {"model_variant": "base", "intensity": 2.5}})
    await http.post(SPEECH, json={"input": "secret words", "voice": "nobody"})
    lines = (await http.get("/v1/logs")).json()["data"]
    assert all(LINE.fullmatch(line) for line in lines)
    assert [line.split("] ", 1)[1].split(":")[0] for line in lines] == ["clone begins", "clone done", "clone failed"]
    assert "variant base, intensity 2.5" in lines[0]
    assert "0.50 s of speech in" in lines[1]
    assert "Cache MISS" in lines[1]
    assert "nobody" in lines[2]
    assert not any("secret" in line for line in lines)


async def test_the_log_tells_what_the_models_said(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.failure = ServerUnavailable("gone")
    for stream in (False, True):
        await http.post(SPEECH, json={"input": "hi", "stream": stream})
        assert "clone failed: the speech models cannot be reached" in (await http.get("/v1/logs")).json()["data"][-1]


async def test_a_hundred_lines_are_kept_and_fifty_shown(http: httpx.AsyncClient) -> None:
    for _ in range(101):
        await http.post(SPEECH, json={"input": ""})
    assert len((await http.get("/v1/logs")).json()["data"]) == 50
    assert len((await http.get("/v1/logs", params={"limit": 100})).json()["data"]) == 100
    assert len((await http.get("/v1/logs", params={"limit": 5})).json()["data"]) == 5
    for limit in ("0", "101", "x"):
        assert_error(await http.get("/v1/logs", params={"limit": limit}), 400, "invalid_value", "limit")


async def test_a_cleared_log_says_so(http: httpx.AsyncClient) -> None:
    await http.post(SPEECH, json={"input": "hi"})
    lines = (await http.delete("/v1/logs")).json()["data"]
    assert len(lines) == 1
    assert lines[0].endswith("] cleared")


async def test_one_line_stays_one_line(http: httpx.AsyncClient) -> None:
    await http.post(
        SPEECH, json={"input": "x", "voice": "no\nbody", "step_audio": {"prompt_audio_base64": base64_wav()}}
    )
    assert all(LINE.fullmatch(line) for line in (await http.get("/v1/logs")).json()["data"])
