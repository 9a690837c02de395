import asyncio
import json
import logging

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import create_app
from gateway.errors import RateLimited
from gateway.logs import JsonLines
from gateway.permits import Permits
from gateway.settings import Settings
from tests.gateway.conftest import FakeBackend
from tests.gateway.helpers import SPEECH, assert_error, edit

pytestmark = pytest.mark.anyio


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


async def test_without_keys_everyone_is_let_in(http: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "nonsense"}):
        assert (await http.get("/v1/models", headers=headers)).status_code == 200


async def test_with_keys_only_their_holders_are_let_in() -> None:
    async with client_of(create_app(Settings(api_keys=("one", "zwei-ü")), FakeBackend())) as http:
        for key in ("one", "zwei-ü"):
            headers = {"Authorization": f"Bearer {key}".encode()}
            assert (await http.get("/v1/models", headers=headers)).status_code == 200
        answer = await http.get("/v1/models", headers={"Authorization": "Bearer two"})
        assert_error(answer, 401, "invalid_api_key")
        for header in ("", "Bearer", "Bearer ", "Basic one", "one"):
            answer = await http.post(SPEECH, content=b"unread", headers={"Authorization": header})
            assert_error(answer, 401, None)
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert_error(await http.get("/metrics"), 401, None)
        for path in ("/healthz", "/livez", "/docs", "/redoc", "/openapi.json"):
            assert (await http.get(path)).status_code == 200
        preflight = {"Origin": "https://x.example", "Access-Control-Request-Method": "POST"}
        assert (await http.options(SPEECH, headers=preflight)).status_code == 200
        refused = await http.get("/v1/models", headers={"Origin": "https://x.example"})
        assert refused.headers["access-control-allow-origin"] == "*"


async def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("gateway.auth.compare_digest", compare)
    async with client_of(create_app(Settings(api_keys=("a", "b" * 500, "c")), FakeBackend())) as http:
        for key in ("a", "c", "d" * 1000):
            compared.clear()
            await http.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
            assert len(compared) == 3, "the first that fits ends nothing"
            assert {len(side) for pair in compared for side in pair} == {32}, "lengths tell nothing"


async def test_liveness_is_apart_from_readiness(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.is_ready = False
    assert (await http.get("/healthz")).status_code == 503
    assert (await http.get("/livez")).status_code == 200


async def test_a_full_house_says_when_to_come_back() -> None:
    backend = FakeBackend(delay=0.3)
    async with client_of(create_app(Settings(max_concurrent=2, max_waiting=3), backend)) as http:
        answers = await asyncio.gather(*(http.post(SPEECH, json={"input": "hi"}) for _ in range(12)))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(refused) == 7
        for answer in refused:
            assert_error(answer, 429, "rate_limit_exceeded")
            assert 1 <= int(answer.headers["retry-after"]) <= 5
        assert (await http.post(SPEECH, json={"input": "hi"})).status_code == 200


async def test_permits_are_given_back_by_those_who_leave_early() -> None:
    permits = Permits(concurrent=1, waiting=1)

    async def hold() -> None:
        async with permits.one():
            await asyncio.sleep(10)

    holder, waiter = asyncio.ensure_future(hold()), asyncio.ensure_future(hold())
    await asyncio.sleep(0.01)
    assert (permits.active, permits.waiting) == (1, 1)
    with pytest.raises(RateLimited):
        async with permits.one():
            pass
    for task in (waiter, holder):
        task.cancel()
    await asyncio.gather(holder, waiter, return_exceptions=True)
    assert (permits.active, permits.waiting) == (0, 0)
    async with asyncio.timeout(1), permits.one():
        assert permits.active == 1


async def test_expected_wait_follows_recent_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("gateway.permits.time.perf_counter", lambda: now)
    permits = Permits(concurrent=2, waiting=10)
    for _ in range(50):
        async with permits.one():
            now += 8.0
    permits.waiting = 4
    assert permits.expected_wait() == 20


async def test_metrics_count_requests_and_speech(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    await http.post(SPEECH, json={"input": "hi"})
    await http.post(SPEECH, json=edit("denoise"))
    await http.post(SPEECH, json={"input": "hi", "voice": "nobody"})
    await http.get("/v1/voices/happy_en")
    await http.get("/nowhere/at/all")
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["gateway_requests_total", "/v1/audio/speech", "200", "POST"] == 2
    assert samples["gateway_requests_total", "/v1/audio/speech", "400", "POST"] == 1
    assert samples["gateway_requests_total", "/v1/voices/{voice}", "200", "GET"] == 1
    assert samples["gateway_requests_total", "404", "GET", "unknown"] == 1
    assert samples["gateway_audio_seconds_total", "clone"] == 0.5
    assert samples["gateway_first_audio_seconds_count", "denoise"] == 1
    assert samples["gateway_real_time_factor_count", "clone"] == 1
    assert samples["gateway_stage_seconds_count", "prepare"] == 2
    assert samples["gateway_stage_seconds_count", "queue"] == 2
    assert samples[("gateway_active_requests",)] == samples[("gateway_waiting_requests",)] == 0


async def test_metrics_tell_whether_streams_are_unbroken(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    for delay in (0.0, 0.3):
        backend.part_delay = delay
        await http.post(SPEECH, json={"input": "hi", "stream": True})
    text = (await http.get("/metrics")).text
    buckets = {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "gateway_stream_stall_seconds_bucket"
    }
    assert buckets[0.1] == 1
    assert buckets[2.5] == 2


async def test_the_log_has_one_line_per_request(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="gateway.access"):
        answer = await http.get("/v1/tags", headers={"X-Client-Request-Id": "mine"})
    (record,) = [record for record in caplog.records if record.name == "gateway.access"]
    entry = json.loads(JsonLines().format(record))
    assert entry["message"] == "GET /v1/tags 200"
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["client_request_id"] == "mine"
    assert entry["level"] == "info"
    assert entry["milliseconds"] >= 0


def test_a_crash_is_one_json_line() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "bad", "exc_info": (type(error), error, error.__traceback__)})
    line = JsonLines().format(record)
    assert "\n" not in line
    assert "ValueError" in json.loads(line)["exception"]
