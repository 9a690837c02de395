"""The client's streams against the real tritonserver, with a model that sings."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from client import Clip, SpeechJob, StepAudioClient
from client.errors import InvalidInput, ModelFailed, QueueFull, SpeechError
from tests import servers
from tests.client import toy_stream

pytestmark = pytest.mark.server

CLIP = Clip(np.zeros(16_000, np.float32), 16_000)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    toy_stream.write(folder)
    return folder


@pytest.fixture(scope="module")
def url(repository: Path) -> Iterator[str]:
    server = servers.start("--model-repository", str(repository), "--no-gateway")
    yield server.grpc_url
    server.stop()


def test_parts_come_as_they_are_made(url: str) -> None:
    started = time.monotonic()
    with StepAudioClient(url) as client:
        arrivals = [(time.monotonic() - started, part) for part in client.stream(SpeechJob("clone", CLIP, text="ok"))]
    assert len(arrivals) == 21
    assert arrivals[0][0] < 0.5
    assert arrivals[-1][0] > 1.0
    assert [round(float(part.clip.waveform[0]) * 100) for _, part in arrivals[:-1]] == list(range(1, 21))
    assert arrivals[-1][1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("text", "expected", "parts_before"),
    [("refuse", InvalidInput, 0), ("full", QueueFull, 0), ("break", ModelFailed, 3), ("vanish", ModelFailed, 20)],
)
def test_failures_keep_their_meaning(url: str, text: str, expected: type[SpeechError], parts_before: int) -> None:
    parts: list[object] = []
    with StepAudioClient(url) as client, pytest.raises(expected):
        parts.extend(client.stream(SpeechJob("clone", CLIP, text=text)))
    assert len(parts) == parts_before


def test_the_model_sees_a_listener_leave(url: str, repository: Path) -> None:
    with StepAudioClient(url) as client:
        for _ in client.stream(SpeechJob("clone", CLIP, text="ok")):
            break
        left = repository / toy_stream.MODEL / "left"
        deadline = time.monotonic() + 0.5
        while not left.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
