"""Streamed speech through a real Triton: lengths, every mode, ends of every kind, and what is left afterwards."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from server.process import processes
from tests.e2e.streams import Speech, sound_of
from tests.e2e.triton_inputs import CLIP_TEXT, ensemble_inputs, tensors

pytestmark = pytest.mark.server

LONG = "A rather long sentence that goes on and on, and then on again. " * 3


@pytest.fixture(scope="module")
def grpc(server):
    return server.triton()


def stats(client):
    answer = client.infer("llm_base_unary", tensors(grpcclient, {"op": "stats"}))
    return json.loads(answer.as_numpy("stats")[0])


def until(found, seconds=10.0, every=0.002):
    """Wait for `found` and return the seconds it took."""
    started = time.monotonic()
    while not found():
        assert time.monotonic() - started < seconds, "it never came"
        time.sleep(every)
    return time.monotonic() - started


def is_idle(client):
    found = stats(client)
    return found["running"] == found["waiting"] == 0


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 6, 13, 40])
def test_a_stream_is_as_long_as_the_whole_utterance(server, grpc, groups):
    fields = {"text": LONG, "seed": groups, "max_tokens": 5 * groups}
    whole = grpc.infer("step_audio_editx_base", tensors(grpcclient, ensemble_inputs(**fields)))
    *sound, last = Speech(server, **fields)
    assert all(set(answer) == {"waveform", "cache_hit"} and answer["waveform"].size for answer in sound)
    assert set(last) == {
        *("waveform", "finish_reason", "usage", "voice_ms", "llm_ms", "flow_ms", "vocoder_ms"),
        *("kept_voice_key", "cache_hit"),
    }
    assert last["waveform"].size == 0
    assert sound_of(sound).shape == whole.as_numpy("waveform").shape
    for name in ("finish_reason", "usage", "kept_voice_key"):
        assert np.array_equal(last[name], whole.as_numpy(name)), name
    assert last["flow_ms"][1] > 0
    assert last["vocoder_ms"][0] > 0
    level, streamed = np.abs(whole.as_numpy("waveform")).mean(), np.abs(sound_of(sound)).mean()
    assert 0.5 * level < streamed < 2 * level


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ("clone", {"text": "Hello there.", "prompt_text": CLIP_TEXT}),
        ("emotion", {"edit_info": "happy", "prompt_text": CLIP_TEXT}),
        ("style", {"edit_info": "whisper", "prompt_text": CLIP_TEXT, "intensity": 2.5}),
        ("speed", {"edit_info": "faster", "prompt_text": CLIP_TEXT}),
        ("paralinguistic", {"text": "Well [Laughter] here we go.", "prompt_text": CLIP_TEXT}),
        ("denoise", {}),
        ("vad", {}),
    ],
)
def test_every_mode_streams(server, mode, fields):
    answers = list(Speech(server, **({"text": None, "prompt_text": None} | fields), mode=mode, max_tokens=60))
    assert sound_of(answers).size == answers[-1]["usage"][1] // 5 * 2880
    assert answers[-1]["finish_reason"][0] in (b"stop", b"length")


def test_the_first_sound_comes_before_the_language_model_is_done(server, grpc):
    speech = Speech(server, text=LONG, max_tokens=900)
    speech.wait()
    assert stats(grpc)["running"] == 1
    speech.leave()
    until(lambda: is_idle(grpc))


BAD = [
    ("audio", {"audio": np.zeros(0, np.float32)}),
    ("sample_rate", {"sample_rate": 0}),
    ("text", {"text": ""}),
    ("text", {"text": "hi <|EOT|> there"}),
    ("prompt_text", {"prompt_text": None}),
    ("mode", {"mode": "sing"}),
    ("max_tokens", {"max_tokens": 0}),
    ("steps", {"steps": 0}),
    ("variant", {"variant": "none_such"}),
    ("variant", {"variant": "../llm"}),
    ("op", {"op": "dance"}),
    ("cancel_id", {"op": "cancel"}),
]


@pytest.mark.parametrize(("field", "change"), BAD, ids=[f"{field}-{index}" for index, (field, _) in enumerate(BAD)])
def test_bad_input_names_its_field(server, grpc, field, change):
    with pytest.raises(InferenceServerException) as failure:
        list(Speech(server, **change))
    assert field in failure.value.message()
    answers = list(Speech(server, parameters={"error_output": True}, **change))
    assert answers[0]["finish_reason"][0] == b"error"
    assert answers[0]["error"][0].startswith(b"INVALID_ARG ")
    until(lambda: is_idle(grpc))


def test_an_error_after_sound_ends_the_stream(server, grpc):
    speech = Speech(server, text=LONG, max_tokens=3000, parameters={"deadline_ms": 2000})
    speech.wait()
    with pytest.raises(InferenceServerException, match="deadline passed"):
        list(speech)
    speech = Speech(server, text=LONG, max_tokens=3000, parameters={"deadline_ms": 2000, "error_output": True})
    *sound, last = speech
    assert sound_of(sound).size
    assert last["error"][0].startswith(b"UNAVAILABLE deadline passed")
    until(lambda: is_idle(grpc))


def test_a_client_that_goes_frees_its_slot_within_a_tenth_of_a_second(server, grpc):
    took = []
    for number in range(10):
        speech = Speech(server, text=LONG, max_tokens=3000, seed=number)
        if number % 2:
            speech.wait()
        until(lambda: stats(grpc)["running"] == 1)
        speech.leave()
        took.append(until(lambda: stats(grpc)["running"] == 0))
    assert sorted(took)[len(took) // 2] < 0.1


def test_a_cancel_request_ends_a_stream(server, grpc):
    speech = Speech(server, text=LONG, max_tokens=3000, cancel_id="a-stream-of-speech")
    speech.wait()
    answer = next(iter(Speech(server, op="cancel", cancel_id="a-stream-of-speech")))
    assert answer["finish_reason"][0] == b"cancelled"
    with pytest.raises(InferenceServerException, match="cancelled"):
        list(speech)
    until(lambda: is_idle(grpc))
    answer = next(iter(Speech(server, op="cancel", cancel_id="an-early-one")))
    assert answer["finish_reason"][0] == b"unknown"
    with pytest.raises(InferenceServerException, match="cancelled"):
        list(Speech(server, cancel_id="an-early-one"))


def test_forty_streams_at_once_all_end_well_and_more_than_the_limit_are_refused(server, grpc):
    with ThreadPoolExecutor(60) as crowd:
        ends = list(crowd.map(lambda seed: outcome(Speech(server, seed=seed, max_tokens=50)), range(60)))
    refused = [end for end in ends if isinstance(end, str)]
    assert all(message.startswith("queue full: ") for message in refused)
    assert len(ends) - len(refused) >= 40
    assert all(end == 10 * 2880 for end in ends if not isinstance(end, str))
    until(lambda: is_idle(grpc))


def outcome(speech):
    try:
        return sound_of(speech).size
    except InferenceServerException as error:
        return error.message()


class Flow:
    """Calls of the flow model."""

    def __init__(self, server):
        self._client = server.triton()
        encoded = self._client.infer(
            "voice_encoder",
            tensors(grpcclient, {name: ensemble_inputs()[name] for name in ("audio", "sample_rate")}),
        )
        names = ("prompt_tokens", "prompt_mel", "speaker_embedding")
        self.voice = {name: encoded.as_numpy(name) for name in names}

    def __call__(self, **fields):
        return self._client.infer("flow", tensors(grpcclient, fields))


TOKENS = np.tile(np.array([1, 2, 1025, 1026, 1027], np.int32), 6)


def test_streams_of_the_flow(server):
    flow = Flow(server)
    opened = flow(op="open", stream_id="abc", **flow.voice, tokens=TOKENS)
    assert opened.as_numpy("mel").shape == (80, 30)
    rest = flow(op="chunk", stream_id="abc", tokens=TOKENS, finish=True)
    assert rest.as_numpy("mel").shape == (80, 36)
    with pytest.raises(InferenceServerException, match="stream_id: no stream 'abc'") as failure:
        flow(op="chunk", stream_id="abc", tokens=TOKENS)
    assert failure.value.status() == "StatusCode.NOT_FOUND"
    assert flow(op="open", stream_id="def", **flow.voice).as_numpy("mel").shape == (80, 0)
    flow(op="close", stream_id="def")
    flow(op="close", stream_id="def")
    for fields in ({"op": "dance"}, {"op": "chunk"}, {"op": "chunk", "stream_id": "x" * 65}):
        with pytest.raises(InferenceServerException) as failure:
            flow(**fields)
        assert failure.value.status() == "StatusCode.INVALID_ARGUMENT"


def resident(server):
    """Megabytes of the two models that keep something for a stream; memory they share with Triton is not counted."""
    running = list(processes())
    (triton,) = (each.group for each in running if f"--grpc-port={server.grpc}" in each.arguments)
    found = 0.0
    for model in ("flow", "step_audio_editx_stream"):
        (pid,) = (each.pid for each in running if each.group == triton and f"{model}_0_0" in each.arguments)
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found += int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) / 1e3
    return found


@pytest.mark.parametrize("dropped", [40, pytest.param(500, marks=pytest.mark.full)])
def test_streams_dropped_at_random_moments_leave_no_memory_behind(server, grpc, dropped):
    chooser = random.Random(dropped)

    def drop(number):
        speech = Speech(server, text=LONG, seed=number, max_tokens=300)
        time.sleep(chooser.random())
        speech.leave()

    def drop_many(count, at_once):
        with ThreadPoolExecutor(at_once) as crowd:
            list(crowd.map(drop, range(count)))
        until(lambda: is_idle(grpc))
        time.sleep(4)  # they tidy up when nothing has happened for a while

    drop_many(60, at_once=40)
    before = resident(server)
    drop_many(dropped, at_once=8)
    until(lambda: resident(server) < 1.02 * before)
