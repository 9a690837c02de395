"""CAM++'s features against the golden arrays, and the exported graph against the network it wraps."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch

from export.checkpoint import Checkpoint, CheckpointError
from export.demo.speaker import write_speaker
from export.onnx_graph import front_end
from export.speaker_encoder import SpeakerFeatures, export
from python_backend.voice.clip import TOKEN_RATE, limit_peak
from python_backend.voice.resample import resample
from tests.tokenizer_golden import padded, session
from tests.vocoder_golden import TOLERANCES, arrays

torch.set_num_threads(1)
CASES = range(1, 9)
MELS = 80


def clip(case):
    """A golden case as the speaker encoder is given it."""
    golden = {name.removeprefix(f"m{case}_"): value.numpy() for name, value in arrays("golden_mel").items()}
    waveform = golden["wav_i16"] / np.float32(32768) if "wav_i16" in golden else golden["wav_f32"].reshape(-1)
    return resample(limit_peak(waveform.astype(np.float32)), int(golden["sr"]), TOKEN_RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speaker_encoder")
    write_speaker(folder, "demo", 0)
    export(Checkpoint.open(folder), folder)
    return folder


def embed(opened, clips):
    audio, length = padded(clips)
    return opened.run(None, {"audio": audio, "audio_length": length})[0]


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def fbank(request, tmp_path_factory):
    if request.param == "torch":
        return lambda waveform: SpeakerFeatures()(torch.from_numpy(waveform)[None])[0].numpy()
    graph = front_end(SpeakerFeatures(), torch.zeros(1, 16_000), 1, 16)
    path = tmp_path_factory.mktemp("features") / "features.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 16)], ir_version=8), path)
    opened = session(path)
    return lambda waveform: opened.run(None, {opened.get_inputs()[0].name: waveform[None]})[0][0]


@pytest.mark.parametrize("case", CASES)
def test_filterbank_is_the_original_s(fbank, case):
    golden, tolerance = arrays("golden_mel")[f"m{case}_fbank_cmn"], TOLERANCES["golden_mel"][f"m{case}_fbank_cmn"]
    found = fbank(clip(case))
    assert found.shape == golden.shape
    assert np.abs(found - golden.numpy()).max() <= tolerance["atol"]
    assert np.linalg.norm(found - golden.numpy()) <= tolerance["rel_rms_tol"] * np.linalg.norm(golden.numpy())


def test_the_graph_gives_what_the_network_gives_on_golden_features(folder):
    network = session(folder / "campplus.onnx")
    opened = session(folder / "model.onnx")
    for case in (1, 2, 4):
        golden = arrays("golden_mel")[f"m{case}_fbank_cmn"].numpy()
        expected = network.run(None, {"input": golden[None]})[0]
        np.testing.assert_allclose(embed(opened, [clip(case)]), expected, atol=1e-3 * np.abs(expected).max())


def test_a_padded_batch_of_mixed_lengths_gives_the_same_embeddings(folder):
    opened = session(folder / "model.onnx")
    clips = [clip(case) for case in CASES]
    together = embed(opened, clips)
    assert together.shape == (8, 192)
    for one, row in zip(clips, together, strict=True):
        np.testing.assert_allclose(embed(opened, [one])[0], row, atol=1e-5 * np.abs(row).max())
    assert np.ptp(together, axis=0).min() > 0, "voices differ"


@pytest.mark.parametrize("samples", [0, 1, 400])
def test_a_clip_too_short_to_have_a_voice_does_not_fail(folder, samples):
    assert np.isfinite(embed(session(folder / "model.onnx"), [np.zeros(samples, np.float32)])).all()


def test_the_graph_is_valid_onnx_with_the_contract_s_names(folder):
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert [value.name for value in model.graph.input] == ["audio", "audio_length"]
    assert [value.name for value in model.graph.output] == ["speaker_embedding"]


def test_a_network_with_other_inputs_is_refused(folder, tmp_path):
    network = onnx.load(folder / "campplus.onnx")
    network.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    onnx.save(network, tmp_path / "campplus.onnx")
    checkpoint = dataclasses.replace(Checkpoint.open(folder), campplus_onnx=tmp_path / "campplus.onnx")
    with pytest.raises(CheckpointError, match="more"):
        export(checkpoint, tmp_path)
