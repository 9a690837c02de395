"""`python -m gateway` as an operator runs it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import httpx

ROOT = Path(__file__).resolve().parents[2]


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def median_seconds(url: str) -> float:
    """Of requests over one connection."""
    with httpx.Client() as http:
        return median(http.get(url).elapsed.total_seconds() for _ in range(21))


def test_it_listens_on_every_port_and_ends_cleanly() -> None:
    first, second, triton = free_ports(3)
    environment = os.environ | {
        "GATEWAY_PORT": str(first),
        "GATEWAY_PORTS": f"{first},{second}",
        "GATEWAY_TRITON_URL": f"127.0.0.1:{triton}",
        "GATEWAY_LOG_JSON": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                alive = [httpx.get(f"http://127.0.0.1:{port}/livez").status_code for port in (first, second)]
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert alive == [200, 200]
        assert median_seconds(f"http://127.0.0.1:{first}/livez") < 0.03, "answers wait for acknowledgements"
        starting = httpx.get(f"http://127.0.0.1:{first}/healthz", timeout=20)
        assert (starting.status_code, starting.json()) == (503, {"status": "starting"})
        answer = httpx.post(f"http://127.0.0.1:{second}/v1/audio/speech", json={"input": "hi"}, timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=15)
    assert '"message": "POST /v1/audio/speech 503"' in said
    assert "Traceback" not in said


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = os.environ | {"GATEWAY_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, "-m", "gateway"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30
        )
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr
