"""The language model in 4 bits: from its checkpoint's folder to models of its own."""

import json
import shutil

import pytest
from google.protobuf import text_format
from rich.console import Console
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from export import fetch as fetching
from export.__main__ import app
from export.build import BuildError, build
from export.checkpoint import Checkpoint, CheckpointError
from export.demo.llm import write_llm
from export.quantise import FOLDERS, quantise
from export.variants import TEMPLATES, is_variant, renamed
from tests.repositories import bare_copy

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The base with both variants beside it, under the released names."""
    directory = tmp_path_factory.mktemp("released")
    base = directory / "Step-Audio-EditX"
    write_llm(base, "demo", 3)
    for variant, folder in FOLDERS.items():
        quantise(base, directory / folder, variant)
    return directory


@pytest.fixture
def repository(tmp_path):
    return bare_copy(tmp_path / "model_repository", TEMPLATES)


def config(repository, model):
    return text_format.Parse((repository / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_each_folder_is_found_by_what_is_in_it(released, tmp_path):
    checkpoint = Checkpoint.open(released)
    assert checkpoint.llm_dir == released / "Step-Audio-EditX"
    for variant, folder in FOLDERS.items():
        found = checkpoint.of_variant(variant)
        assert found.llm_dir == released / folder
        assert found.tokenizer_model == released / folder / "tokenizer.model"
        assert Checkpoint.open(released / folder).llm_dir is None, "4 bits are not the base"

    shutil.copytree(released / FOLDERS["awq"], tmp_path / "any name")
    shutil.copy(released / "Step-Audio-EditX" / "tokenizer.model", tmp_path)
    (tmp_path / "any name" / "tokenizer.model").unlink()
    found = Checkpoint.open(tmp_path).of_variant("awq")
    assert (found.llm_dir, found.tokenizer_model) == (tmp_path / "any name", tmp_path / "tokenizer.model")


def test_an_unknown_form_is_an_error_not_the_base(released, tmp_path):
    folder = shutil.copytree(released / FOLDERS["awq"], tmp_path / "checkpoint")
    content = json.loads((folder / "config.json").read_text())
    content["quantization_config"] = {"quant_method": "gptq"}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="quant_method is 'gptq'"):
        Checkpoint.open(tmp_path)


def test_models_appear_for_the_variants_that_are_there(released, repository):
    build(released, repository, [], False, QUIET)
    for variant in FOLDERS:
        for template in TEMPLATES:
            name = renamed(template, variant)
            assert name != template
            assert is_variant(name)
            written, base = config(repository, name), config(repository, template)
            assert written.name == name
            assert str(written) == renamed(str(base), variant), "nothing but names differs"
            assert (repository / name / "1").is_dir()
        assert config(repository, f"llm_{variant}_unary").parameters["engine"].string_value == f"llm_{variant}"
        steps = [step.model_name for step in config(repository, f"step_audio_editx_{variant}").ensemble_scheduling.step]
        assert steps == ["voice_encoder", f"llm_{variant}_unary", "flow", "vocoder"]
        exported = {path.name for path in (repository / f"llm_{variant}" / "1").iterdir()}
        assert exported >= {"model.py", "config.json", "model.safetensors", "tokenizer.model"}
    assert (repository / "llm_bnb" / "1" / "model.py").read_text() == (
        repository / "llm_base" / "1" / "model.py"
    ).read_text()


def test_no_model_appears_for_a_variant_that_is_not(released, repository):
    build(released / FOLDERS["bnb"], repository, [], False, QUIET)
    assert {path.name for path in repository.iterdir()} == {*TEMPLATES, *(renamed(name, "bnb") for name in TEMPLATES)}
    assert not (repository / "llm_base" / "1" / "model.safetensors").exists()
    with pytest.raises(BuildError, match="no network for llm_awq"):
        build(released / FOLDERS["bnb"], repository, ["llm_awq"], False, QUIET)


def test_folders_follow_the_base(released, repository):
    build(released, repository, ["llm_bnb"], False, QUIET)
    path = repository / "llm_base" / "config.pbtxt"
    path.write_text(path.read_text().replace('string_value: "16"', 'string_value: "3"'))
    build(released, repository, ["llm_bnb"], False, QUIET)
    assert config(repository, "llm_bnb").parameters["slots"].string_value == "3"


def test_a_broken_variant_is_refused_with_its_reason(released, repository, tmp_path):
    folder = shutil.copytree(released / FOLDERS["bnb"], tmp_path / "checkpoint")
    content = json.loads((folder / "config.json").read_text())
    content["quantization_config"]["bnb_4bit_quant_type"] = "fp4"
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="bnb_4bit_quant_type is 'fp4'"):
        build(folder, repository, [], False, QUIET)


@pytest.mark.parametrize("variant", FOLDERS)
def test_the_command_writes_a_folder_beside_the_base(released, tmp_path, variant):
    shutil.copytree(released / "Step-Audio-EditX", tmp_path / "Step-Audio-EditX")
    command = ["quantise", "--checkpoint", str(tmp_path), "--variant", variant]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    for path in (released / FOLDERS[variant]).iterdir():
        assert (tmp_path / FOLDERS[variant] / path.name).read_bytes() == path.read_bytes()
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("Step-Audio-EditX", FOLDERS[variant])]
    assert sizes[1] < sizes[0]

    answer = CliRunner().invoke(app, [*command[:2], str(tmp_path / FOLDERS[variant]), *command[3:]])
    assert answer.exit_code == 1
    assert "has no llm_dir" in answer.output.replace("\n", " ")


def test_what_is_quantised_already_is_left_alone(released, tmp_path):
    with pytest.raises(CheckpointError, match="quantised already"):
        quantise(released / FOLDERS["bnb"], tmp_path, "awq")


@pytest.mark.parametrize("awq", [True, False])
def test_fetch_brings_the_awq_release_when_asked(monkeypatch, tmp_path, awq):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: asked.append(name))
    fetching.fetch(tmp_path, "huggingface", awq, QUIET)
    assert ("stepfun-ai/Step-Audio-EditX-AWQ-4bit" in asked) is awq
    assert len(asked) == 3 + awq
