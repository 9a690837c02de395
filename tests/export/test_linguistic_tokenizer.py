"""vq02 against the golden arrays, in torch and as the exported graph in ONNX Runtime."""

import shutil

import numpy as np
import onnx
import pytest
import torch
import yaml

from export.checkpoint import Checkpoint, CheckpointError
from export.linguistic_tokenizer import LinguisticTokenizer, export
from tests.tokenizer_golden import CHECKPOINT, CLIPS, DIRECTORY, arrays, edge_cases, padded, prepared, session

torch.set_num_threads(1)
NETWORK = LinguisticTokenizer.load(CHECKPOINT)
SHORT_CLIPS = [name for name in CLIPS if "feats" in arrays(name)]


# Operators of this graph that TensorRT 10's parser takes (docs/operators.md of onnx-tensorrt).
TENSORRT_OPERATORS = """
    Add And ArgMin Cast Clip Concat Constant ConstantOfShape Conv Div Expand Flatten Gather Gemm Greater GreaterOrEqual
    LayerNormalization Less Log MatMul Min Mul Pad Range ReduceMean Relu Reshape Shape Slice Softmax Split Sub
    Tile Transpose Unsqueeze Where
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linguistic_tokenizer")
    export(CHECKPOINT, folder)
    return folder / "model.onnx"


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def tokenize(request, graph):
    """Run a batch of clips: lists of codes, features and encoder outputs, each cut to its clip."""
    opened = session(graph)

    def run(clips, dither=0.0):
        audio, length = padded(clips)
        amplitude = np.full((len(clips), 1), dither, np.float32)
        if request.param == "torch":
            with torch.inference_mode():
                outputs = [value.numpy() for value in NETWORK(*map(torch.from_numpy, (audio, length, amplitude)))]
        else:
            outputs = opened.run(None, {"audio": audio, "audio_length": length, "dither": amplitude})
        codes, count, features, encoded = outputs
        return [[value[i, : count[i, 0]] for i in range(len(clips))] for value in (codes, features, encoded)]

    return run


@pytest.mark.parametrize("name", CLIPS)
def test_codes_of_each_clip_are_the_original_s(tokenize, name):
    golden = arrays(name)
    [codes], [features], [encoded] = tokenize([prepared(name)])
    np.testing.assert_array_equal(codes, golden["vq02"])
    np.testing.assert_allclose(encoded, golden["enc_out"], atol=2e-3)
    if "feats" in golden:
        np.testing.assert_allclose(features, golden["feats"], atol=2e-3)
    else:
        np.testing.assert_allclose(features[golden["feats_idx"]], golden["feats_sub"], atol=2e-3)


def test_a_padded_batch_of_mixed_lengths_gives_the_same_codes(tokenize):
    codes, _, encoded = tokenize([prepared(name) for name in CLIPS])
    for name, found, output in zip(CLIPS, codes, encoded, strict=True):
        np.testing.assert_array_equal(found, arrays(name)["vq02"])
        np.testing.assert_allclose(output, arrays(name)["enc_out"], atol=2e-3)


def test_every_edge_length_gives_the_original_s_codes_alone_and_in_batches(tokenize):
    cases = list(edge_cases("vq02"))
    assert len(cases) == 116
    for clip, golden in cases:
        np.testing.assert_array_equal(tokenize([clip])[0][0], golden, err_msg=f"{len(clip)} samples")
    for start in range(0, len(cases), 8):
        clips, goldens = zip(*cases[start : start + 8], strict=True)
        for clip, golden, found in zip(clips, goldens, tokenize(clips)[0], strict=True):
            np.testing.assert_array_equal(found, golden, err_msg=f"{len(clip)} samples, in a batch")


@pytest.mark.parametrize("name", SHORT_CLIPS)
def test_the_encoder_alone_is_exact_to_rounding(name):
    golden = arrays(name)
    features = torch.from_numpy(golden["feats"])[None]
    missing = -features.shape[1] % 4
    features = torch.nn.functional.pad(features, (0, 0, 0, missing), value=7.0)
    with torch.inference_mode():
        encoded = NETWORK.encoder(features, torch.tensor([[len(golden["feats"])]]))[0, : len(golden["feats"])]
    np.testing.assert_allclose(encoded.numpy(), golden["enc_out"], atol=1e-5)


def test_padding_may_hold_anything(tokenize):
    clip = prepared("espeak_1s3")
    alone = tokenize([clip])[0][0]
    audio = np.full((1, len(clip) + 20_000), np.nan, np.float32)
    audio[0, : len(clip)] = clip
    with torch.inference_mode():
        inputs = (torch.from_numpy(audio), torch.tensor([[len(clip)]]), torch.zeros(1, 1))
        codes, count, _, _ = NETWORK(*inputs)
    np.testing.assert_array_equal(codes[0, : int(count)].numpy(), alone)


@pytest.mark.parametrize("samples", [0, 1, 160, 879])
def test_a_clip_too_short_for_a_frame_gives_no_code(tokenize, samples):
    assert len(tokenize([np.zeros(samples, np.float32)])[0][0]) == 0
    assert [len(codes) for codes in tokenize([np.zeros(samples, np.float32), prepared("espeak_1s3")])[0]] == [0, 24]


def test_dither_is_the_same_every_time_and_reaches_the_codes(tokenize):
    clips = [prepared("espeak_4s"), prepared("ex_vad")]
    first, again, none = tokenize(clips, 1.0)[0], tokenize(clips, 1.0)[0], tokenize(clips, 0.0)[0]
    for one, other, clean in zip(first, again, none, strict=True):
        np.testing.assert_array_equal(one, other)
        assert 0 < np.mean(one == clean) < 1


def test_dither_lifts_silence_off_the_floor_of_the_logarithm(tokenize):
    shift, scale = NETWORK.features.shift.numpy(), NETWORK.features.scale.numpy()
    silence = np.zeros(64_000, np.float32)
    levels = [(tokenize([silence], dither)[1][0] / scale - shift).mean() for dither in (0.0, 1.0)]
    np.testing.assert_allclose(levels, [-15.94, 4.42], atol=0.05)


def test_noise_has_the_distribution_of_kaldi_s():
    noise = NETWORK.features.noise.numpy()
    assert noise.shape == (512, 400)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    frame_to_frame = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]
    assert abs(frame_to_frame) < 0.01


def test_noise_enters_where_the_original_s_does():
    golden = arrays("espeak_1s3")
    network = LinguisticTokenizer.load(CHECKPOINT)
    generator = torch.Generator().manual_seed(0)
    frames = len(golden["fbank"])
    per_chunk = [22, *[24] * ((frames - 22) // 24), (frames - 22) % 24]
    noise = torch.cat([torch.randn(count, 400, generator=generator) for count in per_chunk if count])
    network.features.noise[: len(noise)] = noise
    clip = torch.from_numpy(prepared("espeak_1s3"))[None]
    with torch.inference_mode():
        features, count = network.features(clip, torch.tensor([[clip.shape[1]]]), torch.ones(1, 1))
    np.testing.assert_allclose(features[0, : int(count)].numpy(), golden["dither1_feats"], atol=5e-4)


def test_the_graph_is_valid_onnx_with_the_contract_s_names(graph):
    model = onnx.load(graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert [value.name for value in model.graph.input] == ["audio", "audio_length", "dither"]
    assert [value.name for value in model.graph.output] == ["codes", "codes_length", "features", "encoder_output"]
    assert {entry.domain for entry in model.opset_import} == {""}
    assert model.opset_import[0].version <= 18
    assert {node.op_type for node in model.graph.node} <= set(TENSORRT_OPERATORS.split())
    weights = {weight.name for weight in model.graph.initializer}
    assert all(node.input[1] in weights for node in model.graph.node if node.op_type == "Conv")


@pytest.fixture
def editable(tmp_path):
    shutil.copytree(DIRECTORY, tmp_path / "copy", ignore=shutil.ignore_patterns("golden"))
    return Checkpoint.open(tmp_path / "copy")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("encoder_conf", "sanm_shfit", 5), ("encoder_conf", "input_layer", "conv2d"), ("frontend_conf", "fs", 8000)],
)
def test_another_architecture_is_refused_by_name(editable, section, key, value):
    path = editable.linguistic_dir / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config[section][key] = value
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(CheckpointError, match=key):
        LinguisticTokenizer.load(editable)


def test_centroids_of_another_width_are_refused(editable):
    np.save(editable.centroids, np.zeros((1024, 32), np.float32))
    with pytest.raises(CheckpointError, match="centroids"):
        LinguisticTokenizer.load(editable)
