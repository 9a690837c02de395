"""One request through the whole chain of a real Triton, over each protocol."""

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient

from tests.e2e.triton_inputs import CLIP_TEXT, clip, ensemble_inputs, tensors

pytestmark = pytest.mark.server
MODEL = "step_audio_editx_base"


def infer(client, api, **fields):
    return client.infer(MODEL, tensors(api, ensemble_inputs(**fields)))


@pytest.fixture(scope="module")
def grpc(server):
    return server.triton()


def test_clone_over_grpc_and_http_is_the_same_sound(server, grpc):
    over_grpc = infer(grpc, grpcclient, text="Hello there, this is a test.", seed=7)
    over_http = infer(
        httpclient.InferenceServerClient(server.http_url), httpclient, text="Hello there, this is a test.", seed=7
    )
    waveform, generated = over_grpc.as_numpy("waveform"), over_grpc.as_numpy("usage")[1]
    assert waveform.dtype == np.float32
    assert waveform.shape == (generated // 5 * 2880,), "0.12 s at 24 kHz for every group of five"
    assert 0.5 < waveform.size / 24_000 < 8
    assert np.isfinite(waveform).all()
    assert 1e-3 < np.abs(waveform).max() <= 0.99
    np.testing.assert_allclose(waveform, over_http.as_numpy("waveform"), atol=1e-4)


def test_the_seed_decides_the_sound(grpc):
    first, again, other = (
        infer(grpc, grpcclient, text="One more.", seed=seed).as_numpy("waveform") for seed in (1, 1, 2)
    )
    np.testing.assert_allclose(first, again, atol=1e-4)
    assert first.shape != other.shape or not np.allclose(first, other, atol=1e-2)


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ("emotion", {"edit_info": "happy", "prompt_text": CLIP_TEXT}),
        ("style", {"edit_info": "whisper", "prompt_text": CLIP_TEXT, "intensity": 2.5}),
        ("speed", {"edit_info": "faster", "prompt_text": CLIP_TEXT}),
        ("paralinguistic", {"text": "Well [Laughter] here we go.", "prompt_text": CLIP_TEXT}),
        ("denoise", {}),
        ("vad", {}),
    ],
)
def test_every_edit_mode_answers(grpc, mode, fields):
    answer = infer(
        grpc, grpcclient, mode=mode, text=fields.pop("text", None), **({"prompt_text": None} | fields), max_tokens=50
    )
    assert answer.as_numpy("waveform").size == answer.as_numpy("usage")[1] // 5 * 2880
    assert answer.as_numpy("finish_reason")[0] in (b"stop", b"length")
    assert answer.as_numpy("usage")[1] >= 5


def test_dither_off_and_solver_options_reach_their_stages(grpc):
    usual = infer(grpc, grpcclient, seed=3, max_tokens=25)
    fewer = infer(grpc, grpcclient, seed=3, max_tokens=25, steps=2)
    assert usual.as_numpy("waveform").shape == fewer.as_numpy("waveform").shape
    assert not np.allclose(usual.as_numpy("waveform"), fewer.as_numpy("waveform"))
    assert fewer.as_numpy("flow_ms")[1] < usual.as_numpy("flow_ms")[1]


BAD = [
    ("audio", {"audio": np.zeros(0, np.float32)}),
    ("audio", {"audio": clip()[0][:160]}),
    ("audio", {"audio": np.full(16_000, np.nan, np.float32)}),
    ("audio", {"audio": np.tile(clip()[0], 30)[: 61 * clip()[1]]}),
    ("sample_rate", {"sample_rate": 0}),
    ("sample_rate", {"sample_rate": 8000}),
    ("text", {"text": ""}),
    ("text", {"text": None}),
    ("text", {"text": "hi <|EOT|> there"}),
    ("text", {"text": "say <audio_7> now"}),
    ("prompt_text", {"prompt_text": "<|BOT|> system"}),
    ("prompt_text", {"prompt_text": None}),
    ("mode", {"mode": "sing"}),
    ("mode", {"mode": None}),
    ("edit_info", {"mode": "emotion"}),
    ("intensity", {"mode": "emotion", "edit_info": "happy", "intensity": 9.0}),
    ("temperature", {"temperature": -1.0}),
    ("top_p", {"top_p": 0.0}),
    ("max_tokens", {"max_tokens": 0}),
    ("steps", {"steps": 0}),
]


@pytest.mark.parametrize(("field", "change"), BAD, ids=[f"{field}-{index}" for index, (field, _) in enumerate(BAD)])
def test_bad_input_names_its_field_and_the_server_goes_on(grpc, field, change):
    with pytest.raises(grpcclient.InferenceServerException) as failure:
        infer(grpc, grpcclient, **change)
    assert "INVALID_ARGUMENT" in str(failure.value.status()), failure.value
    assert field in failure.value.message()
    assert "Traceback" not in failure.value.message()
    assert ".py" not in failure.value.message()


def test_it_still_serves_after_all_that(grpc):
    assert infer(grpc, grpcclient, max_tokens=10).as_numpy("waveform").size == 2 * 2880
