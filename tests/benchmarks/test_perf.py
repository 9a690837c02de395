"""What perf_analyzer is fed and how it is called; `make perf` runs it."""

import json

import numpy as np

from benchmarks.perf import _arguments
from benchmarks.perf_inputs import _padded_audio, _padded_mel, perf_analyzer_data


def test_arrays_and_texts_become_perf_analyzer_s_json():
    tensors = {
        "mel": np.arange(6, dtype=np.float32).reshape(2, 3),
        "seed": np.array([7], np.int64),
        "text": np.array(["wörter".encode()], dtype=object),
    }
    content = json.loads(json.dumps(perf_analyzer_data(tensors)))
    assert content == {
        "data": [
            {
                "mel": {"content": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "shape": [2, 3]},
                "seed": {"content": [7], "shape": [1]},
                "text": {"content": ["wörter"], "shape": [1]},
            }
        ]
    }


def test_leaf_encoders_get_whole_seconds_at_16_khz_and_the_true_length():
    tensors = _padded_audio(np.full(60_000, 0.5, np.float32), 24_000)
    assert tensors["audio"].shape == (48_000,)
    assert tensors["audio_length"].tolist() == [40_000]
    assert np.abs(tensors["audio"][1000:39_000] - 0.5).max() < 1e-2
    assert not tensors["audio"][40_000:].any()


def test_the_vocoder_gets_whole_buckets_and_the_true_length():
    mel = np.ones((80, 66), np.float32)
    length = np.array([66], np.int32)
    tensors = _padded_mel({"mel": mel, "noise": np.ones(66 * 480, np.float32), "mel_length": length})
    assert tensors["mel"].shape == (80, 100)
    assert tensors["noise"].shape == (48_000,)
    assert tensors["mel_length"].tolist() == [66]
    assert not tensors["mel"][:, 66:].any()


def test_the_decoupled_models_are_streamed_and_the_others_are_not(tmp_path):
    tensors = {"x": np.zeros((80, 7), np.float32)}

    def arguments(model):
        return _arguments(model, tensors, "host:1", tmp_path / "in.json", 4, 10, tmp_path / "out.csv")

    unary = arguments("flow")
    assert "--streaming" in arguments("llm_base")
    assert "--streaming" in arguments("step_audio_editx_stream")
    assert "--streaming" not in unary
    assert unary[unary.index("--shape") + 1] == "x:80,7"
    assert unary[unary.index("--concurrency-range") + 1] == "4"
