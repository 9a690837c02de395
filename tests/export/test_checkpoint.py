"""Finding the parts of a checkpoint, and readers that build no object."""

from pickle import UnpicklingError

import numpy as np
import pytest
import torch

from export.checkpoint import Checkpoint, CheckpointError, kaldi_cmvn, plain_yaml, state_dict

PARAFORMER = "Step-Audio-Tokenizer/dengcunqin/speech_paraformer"
MODEL, VOCODER, TOKENIZER = "Step-Audio-EditX", "Step-Audio-EditX/CosyVoice-300M-25Hz", "Step-Audio-Tokenizer"
RELEASED = {
    f"{MODEL}/config.json": '{"model_type": "step1"}',
    f"{MODEL}/model-00001.safetensors": "",
    f"{MODEL}/tokenizer.model": "",
    f"{VOCODER}/campplus.onnx": "",
    f"{VOCODER}/cosyvoice.yaml": "",
    f"{VOCODER}/flow.pt": "",
    f"{VOCODER}/hift.pt": "",
    f"{VOCODER}/speech_tokenizer_v1.onnx": "",
    f"{TOKENIZER}/linguistic_tokenizer.npy": "",
    f"{TOKENIZER}/speech_tokenizer_v1.onnx": "",
    f"{PARAFORMER}/am.mvn": "",
    f"{PARAFORMER}/config.yaml": "",
    f"{PARAFORMER}/model.pt": "",
}


@pytest.fixture
def released(tmp_path):
    for name, text in RELEASED.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_part_of_the_released_layout_is_found(released):
    checkpoint = Checkpoint.open(released)
    assert checkpoint.linguistic_dir == released / PARAFORMER
    assert checkpoint.centroids == released / TOKENIZER / "linguistic_tokenizer.npy"
    assert checkpoint.semantic_onnx == released / TOKENIZER / "speech_tokenizer_v1.onnx"
    assert checkpoint.campplus_onnx == released / VOCODER / "campplus.onnx"
    assert checkpoint.vocoder_dir == released / VOCODER
    assert checkpoint.llm_dir == released / MODEL
    assert checkpoint.tokenizer_model == released / MODEL / "tokenizer.model"


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        (TOKENIZER, {"linguistic_dir", "centroids", "semantic_onnx"}),
        (MODEL, {"campplus_onnx", "vocoder_dir", "llm_dir", "tokenizer_model"}),
        (VOCODER, {"campplus_onnx", "vocoder_dir"}),
    ],
)
def test_one_folder_alone_gives_its_parts(released, folder, found):
    checkpoint = Checkpoint.open(released / folder)
    parts = set(Checkpoint.__dataclass_fields__) - {"directory"}
    assert {part for part in parts if getattr(checkpoint, part)} == found
    for part in parts - found:
        with pytest.raises(CheckpointError, match=part):
            checkpoint.require(part)


def test_another_model_s_config_is_not_taken_for_the_language_model(released):
    (released / MODEL / "config.json").write_text('{"model_type": "llama"}')
    assert Checkpoint.open(released).llm_dir is None


def test_a_folder_without_any_part_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no part"):
        Checkpoint.open(tmp_path)
    with pytest.raises(CheckpointError, match="not a folder"):
        Checkpoint.open(tmp_path / "absent")


def test_yaml_tags_give_plain_values(tmp_path):
    path = tmp_path / "cosyvoice.yaml"
    path.write_text(
        "flow: !new:some.package.Flow\n  size: 512\n  decoder: !new:some.Decoder {rate: 0.7, eps: 1e-5}\n"
        "act: !name:torch.nn.SiLU\nsteps: !list [1, 2]\ncount: !int 3\nname: !ref <flow>\n"
    )
    assert plain_yaml(path) == {
        "flow": {"size": 512, "decoder": {"rate": 0.7, "eps": 1e-5}},
        "act": None,
        "steps": [1, 2],
        "count": 3,
        "name": "<flow>",
    }


@pytest.mark.parametrize("text", ["a: !!python/object/apply:os.getcwd []", "[1, 2]", "a: [", "3"])
def test_yaml_that_builds_objects_or_is_no_map_is_refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        plain_yaml(path)


def test_state_dict_is_read_flat_or_nested(tmp_path):
    weights = {"a.weight": torch.ones(2), "a.bias": torch.zeros(1)}
    for content in (weights, {"state_dict": weights, "epoch": 3}):
        torch.save(content, tmp_path / "model.pt")
        assert {name: value.tolist() for name, value in state_dict(tmp_path / "model.pt").items()} == {
            "a.weight": [1.0, 1.0],
            "a.bias": [0.0],
        }


def test_state_dict_of_other_things_is_refused(tmp_path):
    torch.save({"a": 1}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="not a state dict"):
        state_dict(tmp_path / "model.pt")
    torch.save({"a": torch.nn.Linear(1, 1)}, tmp_path / "model.pt")
    with pytest.raises(UnpicklingError):
        state_dict(tmp_path / "model.pt")


def test_kaldi_cmvn_reads_both_vectors(tmp_path):
    path = tmp_path / "am.mvn"
    text = "<Nnet>\n<Splice> 2 2\n[ 0 ]\n<AddShift> 2 2\n<LearnRateCoef> 0 [ -1 2.5 ]\n<Rescale> 2 2\n"
    path.write_text(text + "<LearnRateCoef> 0 [ 0.5 1e-1 ]\n</Nnet>\n")
    shift, scale = kaldi_cmvn(path)
    assert shift.dtype == scale.dtype == np.float32
    np.testing.assert_allclose([shift, scale], [[-1, 2.5], [0.5, 0.1]])
    path.write_text(text + "<LearnRateCoef> 0 [ 0.5 ]\n</Nnet>\n")
    with pytest.raises(CheckpointError, match="2 values, <Rescale> 1"):
        kaldi_cmvn(path)
    path.write_text(text + "</Nnet>\n")
    with pytest.raises(CheckpointError, match="Rescale"):
        kaldi_cmvn(path)
