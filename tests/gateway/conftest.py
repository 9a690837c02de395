"""A gateway over a backend that sings instead of speaking, in one process."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

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
    parts: int = 5
    part_delay: float = 0.0
    late_failure: Exception | None = None
    amplitude: float = 0.5
    jobs: list[SpeechJob] = field(default_factory=list)
    cancelled: int = 0
    closed: bool = False
    offloaded: bool = False
    known_voices: set[int] = field(default_factory=set)

    async def synthesize(self, job: SpeechJob) -> SpeechResult:
        self.jobs.append(job)
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure:
            raise self.failure
        moments = np.arange(int(SECONDS * 24_000)) / 24_000
        waveform = (self.amplitude * np.sin(2 * np.pi * 300 * len(self.jobs) * moments)).astype(np.float32)
        stages = {"prepare": 1.0, "decode": 2.0}
        voice = hash(job.clip.waveform.tobytes())
        hit = voice in self.known_voices
        self.known_voices.add(voice)
        return SpeechResult(Clip(waveform, 24_000), self.finish_reason, 11, 22, stages, hit)

    async def stream(self, job: SpeechJob) -> AsyncGenerator[SpeechResult, None]:
        whole = await self.synthesize(job)
        try:
            for waveform in np.array_split(whole.clip.waveform, self.parts):
                yield SpeechResult(Clip(waveform, 24_000), "", 0, 0, {}, whole.cache_hit)
                await asyncio.sleep(self.part_delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.late_failure:
            raise self.late_failure
        yield replace(whole, clip=Clip(np.zeros(0, np.float32), 24_000))

    async def variants(self) -> tuple[str, ...]:
        self.offloaded = False
        return self.loaded

    async def resident(self) -> tuple[str, ...]:
        return () if self.offloaded else self.loaded

    async def offload(self) -> None:
        if self.failure:
            raise self.failure
        self.offloaded = True

    async def ready(self) -> bool:
        return self.is_ready

    async def cache_stats(self) -> dict[str, Any]:
        if self.failure:
            raise self.failure
        kept = len(self.known_voices)
        return {
            "enabled": True,
            "hits": len(self.jobs) - kept,
            "misses": kept,
            "total_requests": len(self.jobs),
            "hit_rate": "0.0%",
            "cache_size": kept,
            "max_size": 1000,
            "time_saved_estimate": "0.0s",
            "stores": {},
        }

    async def clear_cache(self) -> dict[str, Any]:
        self.known_voices.clear()
        self.jobs.clear()
        return await self.cache_stats()

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(max_body_bytes=2_000_000, decode_processes=0, custom_voices_dir=tmp_path / "voices")


@pytest.fixture
async def http(backend: FakeBackend, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(settings, backend), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


@pytest.fixture
def live(backend: FakeBackend, settings: Settings) -> Iterator[str]:
    """The same gateway behind a real socket; gives its URL."""
    with serve(create_app(settings, backend)) as url:
        yield url


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Serve `app` on a free port and give its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
