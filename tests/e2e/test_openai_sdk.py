"""OpenAI's own Python SDK against the running server: its newest release and the last of 1.x."""

import os
import subprocess
import sys

import pytest

from tests.e2e.recordings import decoded
from tests.servers import ROOT

pytestmark = pytest.mark.server

# Installed beside the newest one; both run on the same dependencies.
LAST_OF_1 = ROOT / ".venv" / "openai1"

SCRIPT = """
import sys
import openai

url, folder, release = sys.argv[1:]
assert openai.__version__.startswith(release), openai.__version__
client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)

assert [model.id for model in client.models.list()][0] == "step-audio-editx"
assert client.models.retrieve("tts-1").created > 0
client.audio.speech.create(model="tts-1", voice="alloy", input="hello").write_to_file(folder + "/plain.mp3")

answer = client.audio.speech.with_raw_response.create(
    model="step-audio-editx", voice="happy_en", input="hi", response_format="wav",
    extra_body={"step_audio": {"mode": "clone", "max_tokens": 30}, "metadata": {"trace_id": "demo"}},
)
assert answer.headers["x-stepaudio-model"] == "step-audio-editx"
assert answer.headers["x-metadata-trace_id"] == "demo"
open(folder + "/extended.wav", "wb").write(answer.content)

with client.audio.speech.with_streaming_response.create(
    model="gpt-4o-mini-tts", voice="nova", input="hello", response_format="pcm", extra_body={"stream": True}
) as answer:
    answer.stream_to_file(folder + "/streamed.pcm")

try:
    client.audio.speech.create(model="step-audio-editx", voice="nobody", input="x")
except openai.BadRequestError as error:
    assert (error.param, error.code, error.type) == ("voice", "invalid_voice", "invalid_request_error")
    assert error.request_id.startswith("req_")
else:
    raise AssertionError("no error")
try:
    client.models.retrieve("gpt-9")
except openai.NotFoundError as error:
    assert error.code == "model_not_found"
else:
    raise AssertionError("no error")
print("done")
"""


@pytest.mark.parametrize("release", ["newest", "1.109.1"])
def test_the_official_sdk(server, tmp_path, release):
    path = {} if release == "newest" else {"PYTHONPATH": str(LAST_OF_1)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, f"{server.url}/v1", tmp_path, "" if release == "newest" else release],
        env=os.environ | path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "done\n", done.stderr
    for name in ("plain.mp3", "extended.wav", "streamed.pcm"):
        waveform, rate = decoded((tmp_path / name).read_bytes(), name.rpartition(".")[2])
        assert rate == 24_000
        assert len(waveform) >= 2400
