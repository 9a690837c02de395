"""The language model's process is killed while it speaks to callers of every kind."""

import json
import os
import queue
import signal
import threading
import time

import httpx
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from tests import servers
from tests.e2e.test_llm import CLONE, UNARY
from tests.e2e.triton_inputs import tensors

pytestmark = pytest.mark.server

LONG = {**CLONE, "max_tokens": 3000}
ERROR_WITHIN = 10.0
BACK_WITHIN = 15.0  # or half as long again as the first start, on a machine too busy to start in ten seconds


MODELS = (
    *("voice_encoder", "linguistic_tokenizer", "semantic_tokenizer", "speaker_encoder"),
    *("llm_base", "llm_base_unary", "flow", "vocoder", "step_audio_editx_base"),
)


@pytest.fixture
def own_server(tmp_path):
    """A server with the models that speech takes, the others would only be restarted along; and its time to return."""
    repository = tmp_path / "models"
    repository.mkdir()
    for model in MODELS:
        (repository / model).symlink_to(servers.ROOT / "model_repository" / model)
    words = tmp_path / "first-words.wav"
    began = time.monotonic()
    running = servers.start("--model-repository", str(repository), "--first-words", str(words))
    yield running, max(BACK_WITHIN, 1.5 * (time.monotonic() - began))
    running.stop()
    print("\n".join(running.log))  # shown beside a failure


def speak(server, **options):
    body = {"model": "step-audio-editx", "input": "Hello there.", "step_audio": options}
    return httpx.post(f"{server.url}/v1/audio/speech", json=body, timeout=30)


def call_aside(call):
    """Run `call` in a thread; return the thread and the list that its result or error goes to."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def raw_stream(server, first_tokens):
    """Read a stream of the decoupled model to its end, over gRPC and nothing of ours in between."""
    answers = queue.SimpleQueue()
    client = server.triton()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("llm_base", tensors(grpcclient, LONG))
    try:
        while True:
            result, error = answers.get(timeout=30)
            if error:
                raise error
            if result.get_response().parameters["triton_final_response"].bool_param:
                return "ended"
            first_tokens.set()
    finally:
        client.stop_stream(cancel_requests=True)


def running(server):
    answer = server.triton().infer(UNARY, tensors(grpcclient, {"op": "stats"}))
    return json.loads(answer.as_numpy("stats")[0])["running"]


def wait_for(condition, within, what):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within, f"{what}: not within {within} s"
        time.sleep(0.05)


def serves(server):
    """Tell whether all three kinds of callers get their answers."""
    short = tensors(grpcclient, {**CLONE, "max_tokens": 5})
    try:
        server.triton().infer(UNARY, short, client_timeout=5)
        return speak(server, max_tokens=5).status_code == 200
    except (InferenceServerException, httpx.HTTPError):
        return False


def test_callers_of_every_kind_get_errors_and_service_returns_twice_in_a_row(own_server):
    server, back_within = own_server
    for _ in range(2):
        first_tokens = threading.Event()
        callers = {
            "a raw gRPC stream": call_aside(lambda: raw_stream(server, first_tokens)),  # noqa: B023
            "a unary call": call_aside(lambda: server.triton().infer(UNARY, tensors(grpcclient, LONG))),
            "the gateway": call_aside(lambda: speak(server, max_tokens=3000)),
        }
        assert first_tokens.wait(10)
        wait_for(lambda: running(server) == 3, 10, "three requests at once")
        os.kill(server.stub("llm_base"), signal.SIGKILL)
        killed = time.monotonic()
        for name, (thread, _) in callers.items():
            thread.join(max(0.0, killed + ERROR_WITHIN - time.monotonic()))
            assert not thread.is_alive(), f"{name} hangs"
        outcomes = {name: outcome[0] for name, (_, outcome) in callers.items()}
        assert isinstance(outcomes["a raw gRPC stream"], InferenceServerException), outcomes
        assert isinstance(outcomes["a unary call"], InferenceServerException), outcomes
        assert outcomes["the gateway"].status_code == 503, outcomes["the gateway"].text
        wait_for(lambda: serves(server), back_within - (time.monotonic() - killed), "service")
        print(f"service returned after {time.monotonic() - killed:.1f} s")
