"""A gateway's own process: asked to end while it works, behind a deadline, in front of a Triton that dies.

The model behind it takes two seconds for each request and does nothing.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from benchmarks.null_model import write_repository
from benchmarks.served import Addresses, served
from server.process import processes
from tests.servers import ROOT, free_ports

pytestmark = pytest.mark.server

SPEECH = "/v1/audio/speech"
WORK_SECONDS = 2.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    folder = tmp_path_factory.mktemp("null")
    write_repository(folder, work_seconds=WORK_SECONDS)
    with served(folder, {}) as addresses:
        yield addresses


@dataclass
class Gateway:
    """A process of its own before the same Triton."""

    process: subprocess.Popen[str]
    url: str
    answers: list[httpx.Response] = field(default_factory=list)

    def ask(self) -> threading.Thread:
        """Ask for speech aside; return when it is worked on."""
        caller = threading.Thread(
            target=lambda: self.answers.append(httpx.post(self.url + SPEECH, json={"input": "hi"}, timeout=30))
        )
        caller.start()
        wait_for(lambda: "gateway_active_requests 1.0" in httpx.get(f"{self.url}/metrics").text)
        return caller


@pytest.fixture
def gateway(system: Addresses, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    port = free_ports(1)[0]
    settings = {"GATEWAY_PORT": str(port), "GATEWAY_TRITON_URL": system.triton, "GATEWAY_LOG_JSON": "true"}
    settings |= getattr(request, "param", {})
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"], cwd=ROOT, env=os.environ | settings, stderr=subprocess.PIPE, text=True
    )
    started = Gateway(process, f"http://127.0.0.1:{port}")
    wait_for(lambda: healthy(started.url))
    yield started
    process.kill()
    process.communicate()


def wait_for(condition, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_what_runs_is_finished_before_the_end(gateway: Gateway) -> None:
    caller = gateway.ask()
    gateway.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not healthy(gateway.url), within=WORK_SECONDS)
    assert not gateway.answers, "refuses the new while it finishes the old"
    _, said = gateway.process.communicate(timeout=30)
    caller.join(30)
    assert gateway.answers[0].status_code == 200
    assert gateway.answers[0].content.startswith(b"RIFF")
    assert gateway.process.returncode == -signal.SIGTERM, "ended as it was asked to, once it was done"
    entries = [json.loads(line) for line in said.splitlines()]
    assert any(entry["message"] == f"POST {SPEECH} 200" and entry["milliseconds"] > 2000 for entry in entries)


@pytest.mark.parametrize("gateway", [{"GATEWAY_REQUEST_TIMEOUT_SECONDS": "0.3"}], indirect=True)
def test_a_deadline_is_kept_to(gateway: Gateway) -> None:
    answer = httpx.post(gateway.url + SPEECH, json={"input": "hi"}, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


def test_a_triton_that_dies_is_unavailable_until_it_is_back(gateway: Gateway, system: Addresses) -> None:
    grpc = f"--grpc-port={system.triton.rpartition(':')[2]}"
    (triton,) = [process.pid for process in processes() if grpc in process.arguments]
    caller = gateway.ask()
    os.kill(triton, signal.SIGKILL)
    caller.join(30)
    answers = [gateway.answers[0], httpx.post(gateway.url + SPEECH, json={"input": "hi"}, timeout=30)]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable"), answer.text
        assert answer.json()["error"]["type"] == "service_unavailable_error"
        assert int(answer.headers["retry-after"]) >= 1
    assert httpx.get(f"{gateway.url}/healthz").status_code == 503
    assert httpx.get(f"{gateway.url}/livez").status_code == 200
    wait_for(lambda: healthy(gateway.url))
    assert httpx.post(gateway.url + SPEECH, json={"input": "hi"}, timeout=30).status_code == 200
