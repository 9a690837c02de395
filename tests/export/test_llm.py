import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.checkpoint import Checkpoint, CheckpointError
from export.demo.llm import write_llm
from export.llm import export
from python_backend.llm import weights
from python_backend.llm.engine import Engine
from python_backend.llm.prompt import Prompt
from python_backend.llm.request import Generation
from python_backend.llm.runner import Runner
from python_backend.llm.sampling import Sampling
from python_backend.llm.tokenizer import Tokenizer
from tests.llm.conftest import RELEASED, Receiver


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo")
    write_llm(directory, "demo", 3)
    return directory


@pytest.fixture
def broken(demo, tmp_path):
    """A copy to break."""
    return shutil.copytree(demo, tmp_path / "broken")


def test_what_is_exported_loads(demo, tmp_path):
    export(Checkpoint.open(demo), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "tokenizer.model"}
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["tie_word_embeddings"] is False
    assert "tie_word_embeddings" not in json.loads((demo / "config.json").read_text())
    model = weights.load(tmp_path, torch.device("cpu"), torch.float32)
    tokenizer = Tokenizer(tmp_path / "tokenizer.model")
    assert tokenizer.audio_offset + tokenizer.audio_tokens == model.config.vocab_size


def test_weights_are_linked_where_that_is_possible_and_copied_elsewhere(demo, tmp_path, monkeypatch):
    linked, copied = tmp_path / "linked", tmp_path / "copied"
    linked.mkdir()
    copied.mkdir()
    export(Checkpoint.open(demo), linked)
    assert (linked / "model.safetensors").samefile(demo / "model.safetensors")

    def no_links(source, target):
        raise OSError("not on this file system")

    monkeypatch.setattr(os, "link", no_links)
    export(Checkpoint.open(demo), copied)
    assert not (copied / "model.safetensors").samefile(demo / "model.safetensors")
    assert (copied / "model.safetensors").read_bytes() == (demo / "model.safetensors").read_bytes()


def test_the_same_seed_writes_the_same_files(demo, tmp_path):
    write_llm(tmp_path / "again", "demo", 3)
    write_llm(tmp_path / "other", "demo", 4)
    for path in demo.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert (demo / "model.safetensors").read_bytes() != (tmp_path / "other" / "model.safetensors").read_bytes()


def test_the_demo_tokenizer_has_the_released_layout(demo):
    tokenizer = Tokenizer(demo / "tokenizer.model")
    model = tokenizer._model
    assert [model.id_to_piece(piece) for piece in (0, 1, 2, 3, 4, 12, 13, 18)] == [
        *("<unk>", "<s>", "</s>", "<|EOT|>", "<|BOT|>", "<|META_END|>", "<im_patch>", "<dream_end>")
    ]
    assert [model.id_to_piece(piece) for piece in (19, 24, 25, 26, 30, 31, 38, 39, 67)] == [
        *("<|MASK_1e69f|>", "<column_patch>", "<|SEP_1e69f|>", "<user_defined_symbol_22>", "<user_defined_symbol_26>"),
        *("<audio_start>", "<|AQTA|>", "<user_defined_symbol_35>", "<user_defined_symbol_63>"),
    ]
    assert model.id_to_piece(68) == "<0x00>"
    assert model.id_to_piece(323) == "<0xFF>"
    assert model.id_to_piece(324) == "▁"
    assert model.encode("\n") == [324, 78]
    assert tokenizer.audio_tokens == 9216
    for text in ("Hello,  world! 12", "你好，世界 😀", " [Laughter]\n"):
        assert model.decode(model.encode(text)) == text


def test_special_pieces_equal_the_released_ones(demo):
    released = RELEASED / "tokenizer.model"
    if not released.exists():
        pytest.skip(f"the released tokenizer.model is not at {released.parent}")
    ours, theirs = (Tokenizer(path)._model for path in (demo / "tokenizer.model", released))
    for piece in range(324):
        assert ours.id_to_piece(piece) == theirs.id_to_piece(piece)
        assert ours.is_control(piece) == theirs.is_control(piece)
        assert ours.is_byte(piece) == theirs.is_byte(piece)


def test_a_missing_tensor_is_named(broken, tmp_path):
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 1 of 39 tensors, first model\.layers\.1\.mlp\.up_proj\.weight"):
        export(Checkpoint.open(broken), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"vocab_size": 20_000}, "has shape"), ({"eos_token_id": 2}, r"eos_token_id is 2, but <\|EOT\|> is 3")],
)
def test_parts_that_do_not_fit_each_other_are_refused(broken, tmp_path, change, message):
    content = json.loads((broken / "config.json").read_text()) | change
    (broken / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        export(Checkpoint.open(broken), tmp_path)


def test_a_missing_tokenizer_is_named(broken, tmp_path):
    (broken / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match="tokenizer_model"):
        export(Checkpoint.open(broken), tmp_path)


def test_demo_speech_is_varied(demo):
    tokenizer = Tokenizer(demo / "tokenizer.model")
    model = weights.load(demo, torch.device("cpu"), torch.float32)
    engine = Engine(Runner(model, 2, 1024, tokenizer.audio_offset, tokenizer.eot))
    receivers = {temperature: Receiver() for temperature in (0.0, 0.7)}
    for temperature, receiver in receivers.items():
        prompt = Prompt(tuple(tokenizer.encode("Say something.")), 0)
        engine.submit(Generation(prompt, Sampling(temperature), 400, 3, tokenizer.audio_offset), receiver)
    for receiver in receivers.values():
        assert len(set(receiver.result())) > 150
    engine.close()
