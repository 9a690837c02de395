"""The language model's two faces in a real Triton: streams, single answers, errors, cancellation, admission."""

import json
import queue
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from tests.e2e.triton_inputs import tensors

pytestmark = pytest.mark.server

PROMPT = np.array([[k, k + 1, 1024 + k, 1025 + k, 1026 + k] for k in range(40)], np.int32).reshape(-1)
CLONE = {"mode": "clone", "text": "Hello there, my friend.", "prompt_text": "You know.", "prompt_tokens": PROMPT}
UNARY = "llm_base_unary"


@pytest.fixture(scope="module")
def grpc(server):
    return server.triton()


def infer(client, **fields):
    answer = client.infer(UNARY, tensors(grpcclient, fields))
    return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}


def stats(client):
    return json.loads(infer(client, op="stats")["stats"][0])


def wait_idle(client, seconds=5.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = stats(client)
        if found["running"] == found["waiting"] == 0:
            return True
        time.sleep(0.05)
    return False


def wait_running(client, seconds=5.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if stats(client)["running"]:
            return True
        time.sleep(0.02)
    return False


class Stream:
    """One gRPC stream with one request to the decoupled model."""

    def __init__(self, server, **fields):
        self._answers = queue.SimpleQueue()
        self.client = server.triton()
        self.client.start_stream(lambda result, error: self._answers.put((result, error)))
        self.client.async_stream_infer("llm_base", tensors(grpcclient, fields))

    def __iter__(self):
        try:
            while True:
                result, error = self._answers.get(timeout=30)
                if error:
                    raise error
                response = result.get_response()
                yield {output.name: result.as_numpy(output.name) for output in response.outputs}
                if response.parameters["triton_final_response"].bool_param:
                    return
        finally:
            self.leave()

    def leave(self):
        self.client.stop_stream(cancel_requests=True)


def test_a_stream_brings_groups_of_five_and_ends_with_the_account(server, grpc):
    *groups, last = Stream(server, **CLONE, seed=4)
    assert all(set(group) == {"tokens"} and group["tokens"].shape == (5,) for group in groups)
    assert last["tokens"].size == 0
    assert set(last) == {"tokens", "finish_reason", "usage", "stage_ms"}
    unary = infer(grpc, **CLONE, seed=4)
    assert np.array_equal(np.concatenate([group["tokens"] for group in groups]), unary["tokens"])
    assert last["usage"][1] == unary["usage"][1]


def test_one_seed_gives_one_result_in_a_crowd(grpc):
    alone = infer(grpc, **CLONE, seed=9)["tokens"]
    answers = queue.SimpleQueue()
    for seed in range(24):
        grpc.async_infer(
            UNARY,
            tensors(grpcclient, {**CLONE, "seed": seed}),
            callback=lambda result, error, seed=seed: answers.put((seed, result, error)),
        )
    found = {seed: (result, error) for seed, result, error in (answers.get(timeout=60) for _ in range(24))}
    assert [error for _, error in found.values()] == [None] * 24
    assert np.array_equal(found[9][0].as_numpy("tokens"), alone)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        *(("mode", {"mode": "sing"}), ("mode", {"mode": None}), ("text", {"text": ""}), ("text", {"text": None})),
        *(
            ("text", {"text": "a <audio_5> b"}),
            ("text", {"text": b"\xff"}),
            ("prompt_text", {"prompt_text": "<|EOT|>"}),
        ),
        *(("edit_info", {"mode": "emotion"}), ("prompt_tokens", {"prompt_tokens": None})),
        *(("prompt_tokens", {"prompt_tokens": PROMPT[:7]}), ("prompt_tokens", {"prompt_tokens": PROMPT[::-1]})),
        *(("temperature", {"temperature": 3.0}), ("temperature", {"temperature": float("nan")})),
        *(("top_p", {"top_p": 0.0}), ("top_k", {"top_k": -1}), ("max_tokens", {"max_tokens": 100_000})),
        *(("intensity", {"intensity": 9.0}), ("op", {"op": "dance"}), ("cancel_id", {"op": "cancel"})),
    ],
)
def test_bad_input_names_its_field_on_both_faces(server, grpc, field, fields):
    request = {name: value for name, value in {**CLONE, **fields}.items() if value is not None}
    with pytest.raises(InferenceServerException) as unary:
        infer(grpc, **request)
    assert unary.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert unary.value.message().startswith(f"{field}: ")
    with pytest.raises(InferenceServerException) as stream:
        list(Stream(server, **request))
    assert stream.value.message().startswith(f"{field}: ")
    assert infer(grpc, **CLONE, max_tokens=5)["tokens"].shape == (5,), "the model goes on serving"


def test_without_the_grammar_broken_speech_is_an_error(grpc):
    with pytest.raises(InferenceServerException, match="left the pattern of speech"):
        infer(grpc, **CLONE, grammar=False)


def test_a_cancel_request_ends_both_faces(server, grpc):
    stream = iter(Stream(server, **CLONE, max_tokens=3000, cancel_id="a-stream"))
    next(stream)
    assert infer(grpc, op="cancel", cancel_id="a-stream")["finish_reason"][0] == b"cancelled"
    with pytest.raises(InferenceServerException, match="cancelled"):
        list(stream)

    failure = []

    def ask():
        try:
            infer(server.triton(), **CLONE, max_tokens=3000, cancel_id="an-answer")
        except InferenceServerException as error:
            failure.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert wait_running(grpc)
    assert infer(grpc, op="cancel", cancel_id="an-answer")["finish_reason"][0] == b"cancelled"
    asking.join(5)
    assert failure[0].status() == "StatusCode.CANCELLED"
    assert wait_idle(grpc)


def test_a_cancel_may_come_first(grpc):
    assert infer(grpc, op="cancel", cancel_id="too-early")["finish_reason"][0] == b"unknown"
    with pytest.raises(InferenceServerException, match="cancelled"):
        infer(grpc, **CLONE, cancel_id="too-early")


def test_a_client_that_goes_frees_the_slot(server, grpc):
    stream = Stream(server, **CLONE, max_tokens=3000)
    answers = iter(stream)
    next(answers)
    assert stats(grpc)["running"] == 1
    stream.leave()
    assert wait_idle(grpc)

    call = grpc.async_infer(UNARY, tensors(grpcclient, {**CLONE, "max_tokens": 3000}), callback=lambda *_: None)
    assert wait_running(grpc)
    call.cancel()
    assert wait_idle(grpc)


def test_a_full_queue_is_refused_at_once_and_cancels_still_work(server, grpc):
    answers = queue.SimpleQueue()
    calls = 120  # 28 collected at once, 64 in the queue
    clients = [server.triton() for _ in range(2)]
    for number in range(calls):
        request = {**CLONE, "max_tokens": 3000, "cancel_id": f"crowd-{number}"}
        clients[number % 2].async_infer(
            UNARY, tensors(grpcclient, request), callback=lambda result, error: answers.put((result, error))
        )
    refused = [answers.get(timeout=10)[1] for _ in range(calls - 92)]
    assert all(error.status() == "StatusCode.UNAVAILABLE" for error in refused)
    assert all(error.message().startswith("queue full: ") for error in refused)
    for number in range(calls):
        infer(grpc, op="cancel", cancel_id=f"crowd-{number}")
    others = [answers.get(timeout=20)[1] for _ in range(92)]
    assert all(error.status() == "StatusCode.CANCELLED" for error in others)
    assert wait_idle(grpc)


def crowd(server, grpc, chooser):
    """Send 200 requests at once, cancel some, check that each ends as it should; return how many were answered."""
    answers = queue.SimpleQueue()
    clients = [server.triton() for _ in range(4)]
    doomed = set(chooser.sample(range(200), 60))
    mark = chooser.random()
    for number in range(200):
        request = {**CLONE, "seed": number, "max_tokens": 5 * chooser.randint(1, 20), "cancel_id": f"{mark}-{number}"}
        clients[number % 4].async_infer(
            UNARY,
            tensors(grpcclient, request),
            callback=lambda result, error, number=number: answers.put((number, result, error)),
        )
        if number in doomed and chooser.random() < 0.5:
            infer(grpc, op="cancel", cancel_id=f"{mark}-{number}")
    for number in doomed:
        infer(grpc, op="cancel", cancel_id=f"{mark}-{number}")
    ends = {number: (result, error) for number, result, error in (answers.get(timeout=60) for _ in range(200))}
    for number, (_, error) in ends.items():
        if error is not None:
            cancelled = error.status() == "StatusCode.CANCELLED" and number in doomed
            refused = error.status() == "StatusCode.UNAVAILABLE" and error.message().startswith("queue full: ")
            assert cancelled or refused, error
    for client in clients:
        client.close()
    assert wait_idle(grpc)
    return sum(error is None for _, error in ends.values())


def held(server, grpc):
    """Return what the engine, its processes and /dev/shm hold: bytes, but for the slots and requests."""
    engine = {name: value for name, value in stats(grpc).items() if name in ("slots", "running", "waiting", "kv_bytes")}
    resident = sum(
        int(Path(f"/proc/{server.stub(model)}/statm").read_text().split()[1]) * 4096 for model in ("llm_base", UNARY)
    )
    return engine, resident, sum(path.stat().st_size for path in server.shared_memory())


def test_two_hundred_at_once_with_random_cancellations_all_get_an_end_and_leave_nothing(server, grpc):
    chooser = random.Random(8)
    crowd(server, grpc, chooser)  # touches every slot's memory and starts every thread once
    engine, resident, shared = held(server, grpc)
    for _ in range(2):
        assert crowd(server, grpc, chooser) > 20
    engine_after, resident_after, shared_after = held(server, grpc)
    assert engine_after == engine
    assert engine["running"] == engine["waiting"] == 0
    assert resident_after - resident < 30e6
    assert shared_after == shared
