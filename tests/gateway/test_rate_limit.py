from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from gateway.app import create_app
from gateway.rate_limit import duration
from gateway.settings import Settings
from tests.gateway.conftest import FakeBackend
from tests.gateway.helpers import assert_error

pytestmark = pytest.mark.anyio

NAMES = ("limit", "remaining", "reset")


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(requests_per_minute=3), FakeBackend())
    async with client_of(app) as client:
        yield client


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("gateway.rate_limit.time.monotonic", lambda: now[0])
    return now


def told(answer: httpx.Response) -> list[str]:
    return [answer.headers[f"x-ratelimit-{name}-requests"] for name in NAMES]


async def test_the_fourth_request_of_a_minute_waits_for_its_turn(http: httpx.AsyncClient, clock: list[float]) -> None:
    assert [told(await http.get("/v1/tags")) for _ in range(3)] == [
        ["3", "2", "20s"],
        ["3", "1", "40s"],
        ["3", "0", "1m0s"],
    ]
    clock[0] += 5
    answer = await http.get("/v1/tags")
    assert_error(answer, 429, "rate_limit_exceeded")
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert (answer.headers["retry-after"], told(answer)) == ("15", ["3", "0", "55s"])
    clock[0] += 15
    assert (await http.get("/v1/tags")).status_code == 200
    clock[0] += 3600
    assert told(await http.get("/v1/tags")) == ["3", "2", "20s"]


async def test_each_key_has_requests_of_its_own() -> None:
    app = create_app(Settings(requests_per_minute=3, api_keys=("one", "two")), FakeBackend())
    async with client_of(app) as http:
        for key, statuses in (("one", [200, 200, 200, 429]), ("two", [200, 200, 200, 429]), ("wrong", [401] * 4)):
            headers = {"Authorization": f"Bearer {key}"}
            assert [(await http.get("/v1/tags", headers=headers)).status_code for _ in range(4)] == statuses


async def test_without_keys_a_header_gains_nothing(http: httpx.AsyncClient) -> None:
    headers = [{"Authorization": f"Bearer {number}"} for number in range(4)]
    assert [(await http.get("/v1/tags", headers=each)).status_code for each in headers] == [200, 200, 200, 429]


async def test_probes_are_not_counted(http: httpx.AsyncClient) -> None:
    for _ in range(5):
        answer = await http.get("/healthz")
        assert answer.status_code == 200
        assert "x-ratelimit-limit-requests" not in answer.headers


async def test_callers_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.rate_limit._MOST_CALLERS", 2)
    app = create_app(Settings(requests_per_minute=3, api_keys=("1", "2", "3")), FakeBackend())
    async with client_of(app) as http:
        for key in (1, 1, 1, 2, 3):
            await http.get("/v1/tags", headers={"Authorization": f"Bearer {key}"})
        assert (await http.get("/v1/tags", headers={"Authorization": "Bearer 1"})).status_code == 200


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0ms"), (0.012, "12ms"), (1.0, "1s"), (1.44, "1.5s"), (59.99, "60s"), (360.0, "6m0s")]
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_without_a_limit_nothing_is_said() -> None:
    app = create_app(Settings(), FakeBackend())
    async with client_of(app) as client:
        assert not [name for name in (await client.get("/v1/tags")).headers if "ratelimit" in name]
