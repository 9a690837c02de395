import dataclasses

import numpy as np
import pytest
import torch

from python_backend.errors import InvalidInput
from python_backend.noise import gaussian
from python_backend.token2wav.runtime import open_runtime
from python_backend.token2wav.token2mel import MAX_GROUPS, MelRequest, TokenToMel
from tests.vocoder_golden import arrays, assert_golden, relative, tail_filled

GOLDEN = arrays("golden_token2wav")
NOISE = arrays("golden_flow")["rand_noise"][0].numpy()


def golden_request(case, rounded):
    tokens = tail_filled(GOLDEN[f"{case}_token"][0].numpy())
    prompt = tail_filled(GOLDEN[f"{case}_prompt_token"][0].numpy())
    mel = GOLDEN[f"{case}_prompt_feat"][0].T
    frames = (len(tokens) + len(prompt)) // 5 * 6
    return MelRequest(
        tokens=tokens,
        prompt_tokens=prompt,
        prompt_mel=(mel.bfloat16().float() if rounded else mel).numpy(),
        speaker_embedding=GOLDEN[f"{case}_embedding"][0].numpy(),
        initial_noise=NOISE[:, :frames],
    )


@pytest.fixture(scope="module")
def request_():
    return dataclasses.replace(golden_request("t1", True), initial_noise=None)


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def float32_model(request, exported, config):
    return TokenToMel(open_runtime(exported, request.param, "cpu", "float32"), config)


def test_rounded_case_is_golden_on_both_runtimes(float32_model):
    assert_golden("golden_token2wav", "t1bf16_mel", float32_model.generate(golden_request("t1", True)).mel)


@pytest.mark.parametrize("case", ["t1", "t2"])
def test_unrounded_cases_are_golden(float32_model, case, monkeypatch):
    monkeypatch.setattr(TokenToMel, "_speaker", lambda _self, embedding: torch.from_numpy(embedding)[None])
    assert_golden("golden_token2wav", f"{case}_mel", float32_model.generate(golden_request(case, False)).mel)


def test_bfloat16_stays_within_one_percent(exported, config, runtime, request_):
    exact = TokenToMel(runtime, config).generate(request_).mel
    half = TokenToMel(open_runtime(exported, "torch", "cpu", "bfloat16"), config).generate(request_).mel
    assert 0 < relative(torch.from_numpy(half), torch.from_numpy(exact)) < 0.01


def test_result_has_the_documented_shapes_and_times(runtime, config, request_):
    result = TokenToMel(runtime, config).generate(request_)
    assert result.mel.shape == (80, len(request_.tokens) // 5 * 6)
    assert result.mel.dtype == np.float32
    assert result.mel.flags.c_contiguous
    assert np.isfinite(result.mel).all()
    assert all(milliseconds > 0 for milliseconds in result.stage_ms)


def test_the_seed_decides(runtime, config, request_):
    model = TokenToMel(runtime, config)
    first, again, other = (model.generate(dataclasses.replace(request_, seed=seed)).mel for seed in (7, 7, -(2**63)))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_seeded_noise_is_addressed_by_frame_from_the_start_of_the_prompt(runtime, config, request_):
    model = TokenToMel(runtime, config)
    frames = (len(request_.tokens) + len(request_.prompt_tokens)) // 5 * 6
    slices = [gaussian(5, "flow", 80 * start, 80 * min(11, frames - start)) for start in range(0, frames, 11)]
    noise = np.concatenate(slices).reshape(frames, 80).T
    seeded = model.generate(dataclasses.replace(request_, seed=5)).mel
    given = model.generate(dataclasses.replace(request_, initial_noise=noise)).mel
    np.testing.assert_array_equal(seeded, given)


def test_steps_and_guidance_matter(runtime, config, request_):
    model = TokenToMel(runtime, config)
    mels = [
        model.generate(dataclasses.replace(request_, **change)).mel
        for change in ({}, {"steps": 1}, {"guidance": 0.0}, {"guidance": 10.0}, {"steps": 100})
    ]
    assert all(np.abs(mel - mels[0]).max() > 1e-3 for mel in mels[1:])
    default = model.generate(dataclasses.replace(request_, guidance=config.guidance)).mel
    np.testing.assert_array_equal(default, mels[0])


BAD = {
    "tokens": [np.zeros(0, np.int32), np.zeros(4, np.int32), np.zeros(5, np.int32)],
    "prompt_tokens": [np.zeros(0, np.int32), np.tile(np.array([0, 0, 1024, 1024, 1024], np.int32), MAX_GROUPS + 1)],
    "prompt_mel": [
        np.zeros((80, 0), np.float32),
        np.zeros((79, 9), np.float32),
        np.zeros((80, 6 * MAX_GROUPS + 1), np.float32),
        np.zeros(80, np.float32),
    ],
    "speaker_embedding": [np.zeros(191, np.float32), np.zeros((1, 192), np.float32)],
    "steps": [0, 101, -1],
    "guidance": [-0.1, 10.5, float("nan")],
    "initial_noise": [np.zeros((80, 5), np.float32)],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_bad_input_is_refused_by_name(runtime, config, request_, field, value):
    with pytest.raises(InvalidInput, match=f"^{field}: ") as error:
        TokenToMel(runtime, config).generate(dataclasses.replace(request_, **{field: value}))
    assert error.value.field == field
