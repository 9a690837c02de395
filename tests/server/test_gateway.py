"""The launcher around a gateway: first words, its death, the order of the end. The gateway here is a small double."""

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import soundfile

from server.first_words import FIRST_WORDS
from server.process import processes
from tests import servers
from tests.server import toy

pytestmark = pytest.mark.server

# `python -m gateway` finds the folder it is started in first, so this stands in for the real one.
GATEWAY = """
import http.server, io, json, os, signal, struct, threading, time, wave

if os.path.exists("broken"):
    raise SystemExit("broken on purpose")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            print("slow begins", flush=True)
            time.sleep(1.5)
        self.answer(b"ok")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["input"] and body["voice"]
        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setparams((1, 2, int(os.environ.get("TOY_RATE", "24000")), 0, "NONE", ""))
            file.writeframes(bytes(48000))
        self.answer(content.getvalue())

    def answer(self, content):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        print(self.path, flush=True)

assert os.environ["GATEWAY_TRITON_URL"].startswith("127.0.0.1:")
server = http.server.ThreadingHTTPServer((os.environ["GATEWAY_HOST"], int(os.environ["GATEWAY_PORT"])), Handler)
server.daemon_threads = False
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
print("drained", flush=True)
"""
ENSEMBLE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("waveform", np.zeros(2400, np.float32))]) for _ in requests]
"""
INPUTS = {"audio": "FP32", "sample_rate": "INT32", "mode": "STRING", "text": "STRING", "prompt_text": "STRING"}


@pytest.fixture
def place(tmp_path):
    """A folder to start in: `models` with something under the ensemble's name, and the double of the gateway."""
    folder = tmp_path / "models" / "step_audio_editx_base" / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(ENSEMBLE)
    inputs = "".join(
        f'input {{ name: "{name}" data_type: TYPE_{kind} dims: [ {-1 if name == "audio" else 1} ] }}\n'
        for name, kind in INPUTS.items()
    )
    (folder.parent / "config.pbtxt").write_text(
        f'name: "step_audio_editx_base"\nbackend: "python"\n{inputs}{toy.ONE_PROCESS}'
        'output { name: "waveform" data_type: TYPE_FP32 dims: [ -1 ] }\n'
    )
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "__init__.py").touch()
    (tmp_path / "gateway" / "__main__.py").write_text(GATEWAY)
    return tmp_path


@pytest.fixture
def launch(place):
    started = []

    def start():
        started.append(servers.start("--model-repository", "models", "--restarts", "2", cwd=place))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGINT)
            server.stop(signal.SIGTERM)


def gateway_pid(server):
    return next(
        process.pid
        for process in processes()
        if process.arguments[1:3] == ("-m", "gateway")
        and f"GATEWAY_PORT={server.gateway}" in Path(f"/proc/{process.pid}/environ").read_text().split("\0")
    )


def healthy(server):
    try:
        with urllib.request.urlopen(f"{server.url}/healthz", timeout=2) as answer:  # noqa: S310
            return answer.status == 200
    except OSError:
        return False


def test_the_first_words_are_kept_and_told(launch, place):
    (place / "models" / "llm_base" / "1").mkdir(parents=True)
    (place / "models" / "llm_base" / "1" / "config.json").write_text('{"step_audio_triton_demo": "random"}')
    server = launch()
    words = soundfile.info(place / "out" / "first-words.wav")
    assert (words.samplerate, words.channels, words.subtype, words.frames) == (24_000, 1, "PCM_16", 24_000)
    log = "\n".join(server.log)
    assert f'"{FIRST_WORDS}": 1.00 s of speech in' in log
    assert str(place / "out" / "first-words.wav") in log
    assert f"curl {server.url}/v1/audio/speech" in log
    assert "random weights: expect noise" in log
    assert log.index("warming up") < log.index("starting the gateway") < log.index("first words")
    assert "ready after" in server.log[-1]


def test_a_dead_gateway_is_started_again(launch):
    server = launch()
    os.kill(gateway_pid(server), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not any("restarting the gateway" in line for line in server.log) or not healthy(server):
        assert time.monotonic() < deadline, server.log
        time.sleep(0.1)


def test_a_gateway_that_keeps_dying_ends_everything(launch, place):
    server = launch()
    (place / "broken").touch()
    os.kill(gateway_pid(server), signal.SIGKILL)
    assert server.process.wait(30) == 1
    assert any("given up after 2 restarts" in line for line in server.log)


def test_the_gateway_finishes_its_requests_before_triton_ends(launch):
    server = launch()
    answers = []

    def call():
        with urllib.request.urlopen(f"{server.url}/slow") as answer:  # noqa: S310
            answers.append(answer.read())

    caller = threading.Thread(target=call)
    caller.start()
    deadline = time.monotonic() + 10
    while not any("slow begins" in line for line in server.log):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert server.stop() < 15
    caller.join(1)
    assert answers == [b"ok"]
    log = "\n".join(server.log)
    assert log.index("drained") < log.index("Signal (15) received")


def test_first_words_of_the_wrong_kind_are_an_error(launch, monkeypatch):
    monkeypatch.setenv("TOY_RATE", "16000")
    with pytest.raises(AssertionError, match="not 24 kHz, mono, 16-bit WAV"):
        launch()
