"""vq06 against the golden arrays: log-mel in torch, codes as the exported graph in ONNX Runtime."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from export.checkpoint import Checkpoint, CheckpointError
from export.demo.s3_tokenizer import S3Sizes, S3Tokenizer
from export.demo.weights import randomise
from export.features import WhisperLogMel
from export.onnx_graph import opset_of
from export.semantic_tokenizer import SemanticFeatures, export
from tests.tokenizer_golden import CHECKPOINT, CLIPS, PIECE, arrays, edge_cases, padded, prepared, session

torch.set_num_threads(1)


def export_and_open(checkpoint, folder):
    export(checkpoint, folder)
    return session(folder / "model.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("semantic_tokenizer")
    export(CHECKPOINT, folder)
    return folder


@pytest.fixture(scope="module")
def opened(folder):
    return session(folder / "model.onnx")


def tokenize(opened, clips):
    audio, length = padded(clips)
    codes, count = opened.run(None, {"audio": audio, "audio_length": length})
    assert codes.dtype == count.dtype == np.int32
    return [codes[i, : count[i, 0]] for i in range(len(clips))]


def pieces(name):
    clip = prepared(name)
    return [clip[start : start + PIECE] for start in range(0, len(clip), PIECE)]


@pytest.mark.parametrize("name", CLIPS)
def test_codes_of_each_clip_are_the_original_s(opened, name):
    codes = [tokenize(opened, [piece])[0] for piece in pieces(name)]
    np.testing.assert_array_equal(np.concatenate(codes), arrays(name)["vq06"])


@pytest.mark.parametrize("name", CLIPS)
def test_log_mel_of_each_clip_is_whisper_s(name):
    golden = arrays(name)
    with torch.inference_mode():
        found = [WhisperLogMel()(torch.from_numpy(piece)[None])[0].numpy() for piece in pieces(name)]
    if "log_mel" in golden:
        np.testing.assert_allclose(found[0], golden["log_mel"], atol=2e-3)
    else:
        assert [mel.shape[1] for mel in found] == golden["log_mel_lens"].tolist()
        together = np.concatenate(found, axis=1)
        np.testing.assert_allclose(together[:, golden["log_mel_idx"]], golden["log_mel_sub"], atol=2e-3)


def test_a_padded_batch_of_mixed_lengths_gives_the_same_codes(opened):
    names = [name for name in CLIPS if len(prepared(name)) <= PIECE]
    for name, codes in zip(names, tokenize(opened, [prepared(name) for name in names]), strict=True):
        np.testing.assert_array_equal(codes, arrays(name)["vq06"])


def test_every_edge_length_gives_the_original_s_codes_alone_and_in_batches(opened):
    cases = list(edge_cases("vq06"))
    assert len(cases) == 116
    for start in range(0, len(cases), 8):
        clips, goldens = zip(*cases[start : start + 8], strict=True)
        for clip, golden, found in zip(clips, goldens, tokenize(opened, clips), strict=True):
            np.testing.assert_array_equal(found, golden, err_msg=f"{len(clip)} samples, in a batch")
            np.testing.assert_array_equal(tokenize(opened, [clip])[0], golden, err_msg=f"{len(clip)} samples")


@pytest.mark.parametrize("samples", [0, 1, 479])
def test_a_clip_below_30_ms_gives_no_code(opened, samples):
    assert len(tokenize(opened, [np.zeros(samples, np.float32)])[0]) == 0


def test_the_graph_is_valid_onnx_with_the_contract_s_names(folder):
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert [value.name for value in model.graph.input] == ["audio", "audio_length"]
    assert [value.name for value in model.graph.output] == ["codes", "codes_length"]


def other_forms():
    """Forms the released file may have: int64 lengths and codes, a rank more, weights listed as inputs."""

    def int64(network):
        network.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
        output = network.graph.output[0]
        output.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.INT64, [1, 1, "codes"]))
        network.graph.node[-1].output[0] = "narrow"
        network.graph.initializer.append(helper.make_tensor("wide_shape", TensorProto.INT64, [3], [1, 1, -1]))
        network.graph.node.append(helper.make_node("Cast", ["narrow"], ["wide"], to=TensorProto.INT64))
        network.graph.node.append(helper.make_node("Reshape", ["wide", "wide_shape"], [output.name]))

    def weights_among_inputs(network):
        for weight in network.graph.initializer:
            network.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))

    return [int64, weights_among_inputs]


@pytest.mark.parametrize("change", other_forms(), ids=lambda change: change.__name__)
def test_other_forms_of_the_network_give_the_same_codes(tmp_path, change):
    network = onnx.load(CHECKPOINT.semantic_onnx)
    change(network)
    onnx.checker.check_model(network)
    onnx.save(network, tmp_path / "network.onnx")
    checkpoint = dataclasses.replace(CHECKPOINT, semantic_onnx=tmp_path / "network.onnx")
    codes = tokenize(export_and_open(checkpoint, tmp_path), [prepared("espeak_1s3"), prepared("ex_vad")])
    np.testing.assert_array_equal(codes[0], arrays("espeak_1s3")["vq06"])
    np.testing.assert_array_equal(codes[1], arrays("ex_vad")["vq06"])


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_networks_of_other_operator_sets_are_extended_in_kind(tmp_path, monkeypatch, opset):
    monkeypatch.setattr("export.demo.s3_tokenizer.OPSET", opset)
    network = S3Tokenizer(S3Sizes(width=32, heads=2, blocks=1))
    randomise(network, 0)
    network.codebook.normal_(generator=torch.Generator().manual_seed(0))
    network.save(tmp_path / "speech_tokenizer_v1.onnx")
    opened = export_and_open(Checkpoint.open(tmp_path), tmp_path)
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == opset
    clips = [prepared("espeak_1s3"), prepared("ex_vad")]
    features = SemanticFeatures(torch.int32)
    for clip, codes in zip(clips, tokenize(opened, clips), strict=True):
        with torch.inference_mode():
            np.testing.assert_array_equal(codes, network(*features(torch.from_numpy(clip)[None]))[0])


def test_a_network_with_other_inputs_is_refused(tmp_path):
    network = onnx.load(CHECKPOINT.semantic_onnx)
    network.graph.input[1].type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(network, tmp_path / "network.onnx")
    with pytest.raises(CheckpointError, match="feats_length"):
        export(dataclasses.replace(CHECKPOINT, semantic_onnx=tmp_path / "network.onnx"), tmp_path)


def test_an_operator_set_too_old_to_extend_is_refused():
    network = onnx.load(CHECKPOINT.semantic_onnx)
    network.opset_import[0].version = 9
    with pytest.raises(CheckpointError, match="operator set 9"):
        opset_of(network)
