"""Load over HTTP, against the gateway behind a real socket."""

import asyncio

import pytest

from client.errors import ModelFailed, QueueFull
from client.load.report import Outcome, summarise
from client.load.run import closed_loop
from client.load.targets import Gateway
from client.load.workload import Utterance, utterances
from tests.gateway.conftest import SECONDS, FakeBackend, backend, live, settings

__all__ = ["backend", "live", "settings"]


def measured(url: str, wanted: list[Utterance], at_once: int = 1) -> list[Outcome]:
    async def measure() -> list[Outcome]:
        async with Gateway(url) as target:
            return await closed_loop(target, wanted, at_once, lambda _: None)

    return asyncio.run(measure())


def test_sound_is_counted_and_timed(live: str, backend: FakeBackend) -> None:
    backend.part_delay = 0.05
    outcomes = measured(live, [Utterance("happy_en", "hi", seed, 50) for seed in range(6)], 3)
    assert [outcome.audio for outcome in outcomes] == [SECONDS] * 6
    assert not any(outcome.error for outcome in outcomes)
    assert all(outcome.first_audio < outcome.ended - 0.1 for outcome in outcomes if outcome.first_audio is not None)
    assert {job.sampling.max_tokens for job in backend.jobs} == {50}
    assert sorted(job.sampling.seed or 0 for job in backend.jobs) == list(range(6))


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [(QueueFull("queue full"), None, "HTTP 429"), (None, ModelFailed("broke"), "RemoteProtocolError")],
)
def test_failures_are_counted_by_kind(
    live: str, backend: FakeBackend, early: Exception | None, late: Exception | None, expected: str
) -> None:
    backend.failure, backend.late_failure = early, late
    assert summarise(measured(live, utterances(2))).errors == {expected: 2}
