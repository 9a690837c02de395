"""A gateway over a backend that sings instead of speaking, in one process."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest

from client.speech import Clip, SpeechJob, SpeechResult
from gateway.app import create_app
from gateway.settings import Settings

SECONDS = 0.5


@dataclass
class FakeBackend:
    """Answers every job with a tone whose pitch tells the number of the pass."""

    loaded: tuple[str, ...] = ("base",)
    is_ready: bool = True
    failure: Exception | None = None
    finish_reason: str = "stop"
    delay: float = 0.0
    amplitude: float = 0.5
    jobs: list[SpeechJob] = field(default_factory=list)
    cancelled: int = 0
    closed: bool = False

    async def synthesize(self, job: SpeechJob) -> SpeechResult:
        self.jobs.append(job)
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure:
            raise self.failure
        time = np.arange(int(SECONDS * 24_000)) / 24_000
        waveform = (self.amplitude * np.sin(2 * np.pi * 300 * len(self.jobs) * time)).astype(np.float32)
        stages = {"prepare": 1.0, "decode": 2.0}
        return SpeechResult(Clip(waveform, 24_000), self.finish_reason, 11, 22, stages)

    async def variants(self) -> tuple[str, ...]:
        return self.loaded

    async def ready(self) -> bool:
        return self.is_ready

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def settings() -> Settings:
    return Settings(max_body_bytes=2_000_000)


@pytest.fixture
async def http(backend: FakeBackend, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(settings, backend), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
