"""The voice cache of running servers, as callers of the gateway and of Triton meet it."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from tests import servers
from tests.e2e.triton_inputs import clip, ensemble_inputs, tensors
from tests.voice.cache.redis_server import RedisServer

pytestmark = pytest.mark.server


@pytest.fixture
def start(tmp_path):
    started = []

    def run(*options, **environment):
        words = ["--first-words", str(tmp_path / "words.wav")]
        environment = {"VOICE_CACHE_DIR": str(tmp_path / "voices"), **environment}
        started.append(servers.start(*words, *options, environment=environment))
        return started[-1]

    yield run
    for server in started:
        if server.process.poll() is None:
            server.stop()
        print("\n".join(server.log))


def speak(server, text="缓存测试", voice="story_teller", **more):
    answer = httpx.post(f"{server.url}/v1/audio/speech", json={"input": text, "voice": voice, **more}, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer


def state(server):
    return httpx.get(f"{server.url}/v1/cache").json()


def voice(server, **fields):
    answer = server.triton().infer("voice_encoder", tensors(grpcclient, fields))
    return {
        name: answer.as_numpy(name) for name in ("prompt_tokens", "prompt_mel", "voice_key", "cache_hit", "stage_ms")
    }


def test_the_cache_of_one_server_from_miss_to_restart_to_clear(start, tmp_path):
    server = start()
    assert state(server) | {"cache_size": 0} == {
        "enabled": True,
        "hits": 0,
        "misses": 0,
        "total_requests": 0,
        "hit_rate": "0.0%",
        "cache_size": 0,
        "max_size": 1000,
        "time_saved_estimate": "0.0s",
    }, "what the server said at its start is not counted"
    cleared = httpx.delete(f"{server.url}/v1/cache").json()
    assert (cleared["cache_size"], cleared["hits"]) == (0, 0)
    assert not list((tmp_path / "voices").glob("??/*"))

    said = [speak(server).headers["x-stepaudio-cache"] for _ in range(2)]
    said.append(speak(server, stream=True).headers["x-stepaudio-cache"])
    assert said == ["miss", "hit", "hit"]
    assert (state(server)["misses"], state(server)["hits"], state(server)["hit_rate"]) == (1, 2, "66.7%")
    assert len(list((tmp_path / "voices").glob("??/*.safetensors"))) == 1
    log = "\n".join(server.log)
    assert re.search(r"\[FunASR Cache MISS\] hash=[0-9a-f]{8}", log)
    assert re.search(r"\[FunASR Cache HIT\] hash=[0-9a-f]{8}.* \(saved ~[\d.]+ s\)", log)
    assert re.search(r"\[FunASR Encoding\] time=\d+\.\d\ds", log)
    assert "TF32" in log
    lines = httpx.get(f"{server.url}/v1/logs", params={"limit": 5}).json()["data"]
    assert lines
    assert all(line[0] == "[" and line[9] == "]" for line in lines)
    metrics = _metrics(server, 'step_audio_voice_cache_entries{store="disk"} 1')
    assert "step_audio_voice_cache_hits_total" in metrics
    server.stop()

    server = start()
    assert speak(server).headers["x-stepaudio-cache"] == "hit"
    assert (state(server)["hits"], state(server)["misses"]) == (1, 0)
    cleared = httpx.delete(f"{server.url}/v1/cache").json()
    assert (cleared["cache_size"], cleared["hits"]) == (0, 0)
    assert not list((tmp_path / "voices").glob("??/*"))
    assert speak(server).headers["x-stepaudio-cache"] == "miss", "the gateway sends a forgotten clip again"


def test_two_servers_share_one_redis(start, tmp_path):
    redis = RedisServer(tmp_path)
    try:
        servers_ = [
            start("--no-gateway", VOICE_CACHE_DIR=str(tmp_path / f"voices-{number}"), VOICE_CACHE_REDIS_URL=redis.url)
            for number in range(2)
        ]
        waveform, rate = clip()
        clips = [voice(server, audio=waveform * np.float32(0.7), sample_rate=rate) for server in servers_]
        assert [bool(answer["cache_hit"][0]) for answer in clips] == [False, True]
        for name in ("prompt_tokens", "prompt_mel", "voice_key"):
            np.testing.assert_array_equal(clips[0][name], clips[1][name])
    finally:
        redis.stop()
    assert not voice(servers_[0], audio=waveform * np.float32(0.6), sample_rate=rate)["cache_hit"][0], "goes on alone"


@pytest.mark.full
def test_off_means_that_nothing_is_kept(start, tmp_path):
    server = start(VOICE_CACHE="off")
    assert [speak(server).headers["x-stepaudio-cache"] for _ in range(2)] == ["miss", "miss"]
    assert state(server)["enabled"] is False
    assert not os.path.exists(tmp_path / "voices")  # noqa: PTH110


def test_a_key_stands_for_its_clip_in_every_model_that_takes_one(server):
    waveform, rate = clip()
    known = voice(server, audio=waveform, sample_rate=rate)
    key = known["voice_key"][0]
    again = voice(server, voice_key=key)
    assert again["cache_hit"][0]
    np.testing.assert_array_equal(again["prompt_mel"], known["prompt_mel"])

    def spoken(**changes):
        answer = server.triton().infer(
            "step_audio_editx_base", tensors(grpcclient, ensemble_inputs(max_tokens=20, **changes))
        )
        assert answer.as_numpy("kept_voice_key")[0] == key
        return answer.as_numpy("waveform")

    np.testing.assert_array_equal(spoken(), spoken(audio=None, sample_rate=None, voice_key=key))


@pytest.mark.parametrize(
    ("status", "words", "fields"),
    [
        ("NOT_FOUND", "voice_key: this voice is not kept", {"voice_key": "0" * 64}),
        ("INVALID_ARGUMENT", "voice_key: must be 64", {"voice_key": "../../../etc/passwd"}),
        ("INVALID_ARGUMENT", "voice_key: names a voice", {"voice_key": "0" * 64, "audio": np.ones(9, np.float32)}),
        ("INVALID_ARGUMENT", "audio: missing", {}),
        ("INVALID_ARGUMENT", "op: unknown operation", {"op": "burn"}),
    ],
)
def test_bad_keys_say_what_is_wrong(server, status, words, fields):
    with pytest.raises(InferenceServerException) as refusal:
        server.triton().infer("voice_encoder", tensors(grpcclient, fields or {"dither": 1.0}))
    assert refusal.value.status() == f"StatusCode.{status}"
    assert words in refusal.value.message()


def test_encode_reaches_the_networks_every_time(server):
    waveform, rate = clip()
    for _ in range(2):
        answer = voice(server, audio=waveform, sample_rate=rate, op="encode")
        assert (answer["voice_key"][0], answer["cache_hit"][0]) == (b"", False)
        assert (answer["stage_ms"] > 0).all()


def test_an_ensemble_passes_on_that_a_voice_is_not_kept(server):
    fields = ensemble_inputs(audio=None, sample_rate=None, voice_key="0" * 64)
    with pytest.raises(InferenceServerException, match="voice_key: this voice is not kept") as refusal:
        server.triton().infer("step_audio_editx_base", tensors(grpcclient, fields))
    assert refusal.value.status() == "StatusCode.NOT_FOUND"


def test_eight_callers_with_one_new_clip_encode_it_once(server):
    waveform, rate = clip()
    new = waveform * np.float32(0.31)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: voice(server, audio=new, sample_rate=rate), range(8)))
    encoded = {tuple(answer["stage_ms"]) for answer in answers if not answer["cache_hit"][0]}
    assert len(encoded) == 1, "all that missed got the one computation's answer"
    for answer in answers:
        np.testing.assert_array_equal(answer["prompt_mel"], answers[0]["prompt_mel"])


def _metrics(server, line):
    """Return the metrics once they hold `line`: they are reported once a second."""
    deadline = time.monotonic() + 5
    while True:
        found = httpx.get(f"http://127.0.0.1:{server.metrics}/metrics").text
        if line in found:
            return found
        assert time.monotonic() < deadline, f"{line} never came"
        time.sleep(0.2)
