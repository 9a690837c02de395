import json
import shutil

import pytest
from rich.console import Console
from typer.testing import CliRunner

from export import neighbours
from export.__main__ import app
from export.chat import DEFAULT_CHECKPOINT, DEFAULT_NAME, export
from export.checkpoint import CheckpointError
from python_backend.chat.description import Description
from python_backend.chat.prompt import Prompter

CONSOLE = Console(quiet=True)


@pytest.fixture
def checkpoint(tmp_path):
    return shutil.copytree(DEFAULT_CHECKPOINT, tmp_path / "My-Chat")


@pytest.fixture
def chat_only(monkeypatch):
    monkeypatch.setattr(neighbours, "NEIGHBOURS", {"chat": neighbours.NEIGHBOURS["chat"]})


def test_a_chat_checkpoint_is_placed_whole(checkpoint, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    export(checkpoint, target)
    assert Description.load(target).model == "My-Chat"
    assert "0.9 million parameters" in Description.load(target).description
    assert (target / "model.safetensors").stat().st_ino == (checkpoint / "model.safetensors").stat().st_ino
    assert Prompter(target).encode([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: (c / "config.json").unlink(), r"no config\.json"),
        (lambda c: (c / "model.safetensors").unlink(), r"no \*\.safetensors"),
        (lambda c: (c / "chat_template.jinja").unlink(), "no chat template"),
        (lambda c: (c / "config.json").write_text("{"), "not JSON"),
        (lambda c: (c / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "x.Y"}})), "code of its own"),
    ],
)
def test_an_unusable_one_is_refused(checkpoint, tmp_path, spoil, words):
    spoil(checkpoint)
    with pytest.raises(CheckpointError, match=words):
        export(checkpoint, tmp_path)


def test_defaults_leave_your_own_alone_and_yours_replaces_them(checkpoint, tmp_path, chat_only):
    repository = tmp_path / "repository"
    neighbours.export_defaults(repository, CONSOLE)
    folder = repository / "chat" / "1"
    assert Description.load(folder).model == DEFAULT_NAME
    (folder / "model-00002-of-00002.safetensors").touch()
    neighbours.export_own("chat", checkpoint, "mine", repository, CONSOLE)
    assert not (folder / "model-00002-of-00002.safetensors").exists(), "weights of two checkpoints would be mixed"
    neighbours.export_defaults(repository, CONSOLE)
    assert Description.load(folder).model == "mine"


def test_a_default_that_cannot_be_had_is_left_out(tmp_path, monkeypatch, chat_only):
    def offline():
        raise neighbours.sentence_model.FetchError("no network")

    gone = neighbours.Neighbour("text_embedder", "x", offline, neighbours.text_embedder.export)
    monkeypatch.setitem(neighbours.NEIGHBOURS, "text_embedder", gone)
    neighbours.export_defaults(tmp_path, CONSOLE)
    assert (tmp_path / "chat" / "1" / "config.json").exists()
    assert not (tmp_path / "text_embedder").exists()


def test_the_command_exports_a_checkpoint_and_says_what_is_wrong_with_one(checkpoint, tmp_path):
    command = ["neighbour", "chat", "--checkpoint", str(checkpoint), "--model-repository", str(tmp_path / "repository")]
    assert CliRunner().invoke(app, [*command, "--name", "mine"]).exit_code == 0
    assert Description.load(tmp_path / "repository" / "chat" / "1").model == "mine"
    (checkpoint / "config.json").unlink()
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert "no config.json" in " ".join(refused.stdout.split())
