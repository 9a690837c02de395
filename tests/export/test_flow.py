import shutil

import pytest
import torch
from safetensors.torch import load_file

from export.checkpoint import Checkpoint, CheckpointError, state_dict
from export.demo.vocoder import write_vocoder
from export.flow import export, load, read_config
from python_backend.token2wav.config import FlowConfig
from tests.vocoder_golden import CHECKPOINT, DIRECTORY

torch.set_num_threads(1)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(DIRECTORY, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_sizes_come_from_the_yaml():
    config = read_config(DIRECTORY)
    assert (config.vocab_size, config.mel_channels, config.speaker_size, config.guidance) == (5121, 80, 192, 0.7)
    assert (config.encoder.num_blocks, config.encoder.output_size) == (3, 48)
    assert (config.estimator.depth, config.estimator.hidden_size) == (3, 64)


def test_export_keeps_weights_and_sizes(tmp_path):
    export(CHECKPOINT, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "flow.json",
        "flow.safetensors",
        "context.onnx",
        "modulation.onnx",
        "velocity.onnx",
    }
    assert FlowConfig.read(tmp_path / "flow.json") == read_config(DIRECTORY)
    exported, original = load_file(tmp_path / "flow.safetensors"), state_dict(DIRECTORY / "flow.pt")
    assert exported.keys() == original.keys()
    assert all(torch.equal(exported[name], original[name]) for name in original)


def test_half_precision_weights_are_widened(copy):
    weights = state_dict(copy / "flow.pt")
    torch.save({name: tensor.bfloat16() for name, tensor in weights.items()}, copy / "flow.pt")
    assert {parameter.dtype for parameter in load(copy).parameters()} == {torch.float32}


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_are_loaded_strictly(copy, change):
    weights = state_dict(copy / "flow.pt")
    name = "decoder.estimator.blocks.2.conv.block.6.bias"
    if change == "missing":
        del weights[name]
    elif change == "extra":
        weights["decoder.estimator.blocks.3.attn.to_q.weight"] = torch.zeros(64, 64)
    else:
        weights[name] = torch.zeros(63)
    torch.save(weights, copy / "flow.pt")
    with pytest.raises(RuntimeError, match=r"decoder\.estimator\.blocks"):
        load(copy)


def test_a_missing_size_is_named(copy):
    text = (copy / "cosyvoice.yaml").read_text()
    (copy / "cosyvoice.yaml").write_text(text.replace("num_up_blocks", "up_blocks"))
    with pytest.raises(CheckpointError, match="num_up_blocks"):
        read_config(copy)


def test_random_checkpoint_has_the_released_names_and_sizes(tmp_path):
    write_vocoder(tmp_path / "first", "demo", 5)
    write_vocoder(tmp_path / "second", "demo", 5)
    write_vocoder(tmp_path / "third", "demo", 6)
    first, second, third = (state_dict(tmp_path / name / "flow.pt") for name in ("first", "second", "third"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["encoder_proj.weight"], third["encoder_proj.weight"])
    assert Checkpoint.open(tmp_path / "first").vocoder_dir == tmp_path / "first"
    load(tmp_path / "first")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Sizes alone: the weights of this test stay on the meta device."""
    from export.demo.vocoder import SIZES, write_sizes

    folder = tmp_path_factory.mktemp("released")
    write_sizes(folder, SIZES["released"], "sizes alone")
    return folder


def test_released_sizes_give_the_released_parameter_counts(released):
    from export.hift import Hift
    from export.vocoder import read_config as read_hift_config
    from python_backend.token2wav.flow import Flow

    with torch.device("meta"):
        flow, hift = Flow(read_config(released)), Hift(read_hift_config(released))
    assert len(flow.state_dict()) == 605
    assert sum(parameter.numel() for parameter in flow.parameters()) == 153_754_096
    # The file has 328 tensors and 20 821 295 numbers: a normalised convolution has a gain per first dimension besides.
    normalised = [
        parameter
        for name, parameter in hift.named_parameters()
        if parameter.dim() == 3 and not name.startswith("source_downs")
    ]
    assert len(hift.state_dict()) + len(normalised) == 328
    gains = sum(parameter.shape[0] for parameter in normalised)
    assert sum(parameter.numel() for parameter in hift.parameters()) + gains == 20_821_295
