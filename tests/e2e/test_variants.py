"""4-bit variants of the language model through a real Triton, its ensembles and the gateway; the base is not there."""

import io
import shutil

import httpx
import numpy as np
import pytest
import soundfile
import tritonclient.grpc as grpcclient
from rich.console import Console

from export.build import build
from export.demo.llm import write_llm
from export.quantise import FOLDERS, quantise
from tests.e2e.triton_inputs import ensemble_inputs, tensors
from tests.repositories import bare_copy
from tests.servers import ROOT, start

pytestmark = pytest.mark.server
SHARED = ("linguistic_tokenizer", "semantic_tokenizer", "speaker_encoder", "voice_encoder", "flow", "vocoder")
LANGUAGE = ("llm_base", "llm_base_unary", "step_audio_editx_base")


@pytest.fixture(scope="module")
def variants_server(tmp_path_factory):
    checkpoint = tmp_path_factory.mktemp("checkpoint")
    write_llm(checkpoint / "base", "demo", 11)
    for variant, folder in FOLDERS.items():
        quantise(checkpoint / "base", checkpoint / folder, variant, symmetric=False)
    shutil.rmtree(checkpoint / "base")
    repository = bare_copy(tmp_path_factory.mktemp("variants") / "model_repository", LANGUAGE)
    for model in SHARED:
        shutil.copytree(ROOT / "model_repository" / model, repository / model)
    build(checkpoint, repository, [], False, Console(quiet=True))
    server = start("--model-repository", str(repository))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def http(variants_server):
    with httpx.Client(base_url=variants_server.url, timeout=120) as client:
        yield client


def speak(http, variant=None):
    extension = {"max_tokens": 20} | ({"model_variant": variant} if variant else {})
    body = {"model": "step-audio-editx", "voice": "happy_en", "input": "Hi.", "step_audio": extension}
    return http.post("/v1/audio/speech", json=body)


@pytest.mark.parametrize("variant", FOLDERS)
def test_the_ensemble_of_a_variant_speaks(variants_server, variant):
    inputs = tensors(grpcclient, ensemble_inputs(max_tokens=20))
    answer = variants_server.triton().infer(f"step_audio_editx_{variant}", inputs)
    waveform = answer.as_numpy("waveform")
    assert waveform.shape == (4 * 2880,)
    assert np.sqrt(np.mean(waveform**2)) > 1e-3


@pytest.mark.parametrize(("asked", "answering"), [("bnb", "bnb"), ("awq", "awq"), (None, "bnb")])
def test_the_gateway_speaks_with_the_variant_asked_for(http, asked, answering):
    answer = speak(http, asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-StepAudio-Variant"] == answering
    waveform, rate = soundfile.read(io.BytesIO(answer.content))
    assert (rate, len(waveform)) == (24_000, 4 * 2880)


def test_a_variant_that_is_not_there_is_a_clear_400(http):
    answer = speak(http, "base")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_variant_unavailable", "step_audio.model_variant")
    assert "loaded: bnb, awq" in error["message"]


def test_the_log_says_what_is_not_served(variants_server):
    assert any("not served: llm_base, llm_base_unary, step_audio_editx_base" in line for line in variants_server.log)
