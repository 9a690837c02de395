"""The tensor table in docs/architecture.md is the public interface: every config.pbtxt must say the same."""

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.variants import is_variant
from python_backend.streaming import routing

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
LEAVES = ("linguistic_tokenizer", "semantic_tokenizer", "speaker_encoder", "vocoder", "sense_voice")
# Of no use to a caller of the whole chain.
UNMAPPED = {
    "voice_encoder": {"op"},
    "llm_base_unary": {"op"},
    "flow": {"initial_noise", "op", "stream_id", "finish"},
}
TENSOR = re.compile(r"()`(\w+)`\*?(?: (FP32|INT32|INT64|BYTES|BOOL) \[([^\]]*)\])?")


def config(model: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse((REPOSITORY / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def documented() -> dict[str, tuple[list[tuple[str, ...]], list[tuple[str, ...]]]]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            for model in re.findall(r"`(\w+)`", cells[0]):
                rows[model] = (TENSOR.findall(cells[1]), TENSOR.findall(cells[2]))
    return rows


def kind(data_type: int) -> str:
    name = model_config_pb2.DataType.Name(data_type).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


@pytest.mark.parametrize("model", documented())
def test_config_says_what_the_table_says(model):
    inputs, outputs = documented()[model]
    found = config(model)
    assert [tensor.name for tensor in found.input] == [row[1] for row in inputs]
    assert [tensor.name for tensor in found.output] == [row[1] for row in outputs]
    for tensor, (_, _, data_type, shape) in zip([*found.input, *found.output], [*inputs, *outputs], strict=True):
        if data_type:
            sizes = [int(size) if size.strip().isdigit() else -1 for size in shape.split(",")]
            assert (kind(tensor.data_type), list(tensor.dims)) == (data_type, sizes), tensor.name


def test_every_model_is_in_the_table():
    models = {path.parent.name for path in REPOSITORY.glob("*/config.pbtxt")}
    assert {model for model in models if not is_variant(model)} == set(documented())


@pytest.mark.parametrize("model", documented())
def test_batching_and_instances_fit_both_homes(model):
    found = config(model)
    assert found.name == model
    if model in LEAVES:
        assert found.backend == "onnxruntime"
        assert found.max_batch_size == 8
        assert found.HasField("dynamic_batching")
        # NVIDIA's ONNX Runtime backend refuses to load such a model otherwise.
        assert not any(tensor.optional for tensor in found.input)
        assert [(group.kind, group.count) for group in found.instance_group] == [
            (model_config_pb2.ModelInstanceGroup.KIND_AUTO, 1)
        ]
        assert found.model_warmup
    else:
        assert found.max_batch_size == 0
        # Triton reports a missing input only sometimes, and inside an ensemble as a deadlock: the models check.
        assert all(tensor.optional for tensor in found.input)
    if found.backend == "python":
        assert [(group.kind, group.count) for group in found.instance_group] == [
            (model_config_pb2.ModelInstanceGroup.KIND_CPU, 1)
        ]


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("*/1/model.py")), ids=lambda path: path.parent.parent.name)
def test_model_files_are_glue(path):
    assert len(path.read_text().splitlines()) < 150


def test_the_ensemble_passes_every_tensor_it_promises():
    found = config("step_audio_editx_base")
    made = {tensor.name for tensor in found.input}
    for step in found.ensemble_scheduling.step:
        member = config(step.model_name)
        names = {tensor.name for tensor in member.input}
        assert set(step.input_map) == names - UNMAPPED.get(step.model_name, set()), step.model_name
        assert set(step.output_map) <= {tensor.name for tensor in member.output}
        assert set(step.input_map.values()) <= made, "a step reads a tensor no earlier step makes"
        made |= set(step.output_map.values())
    assert {tensor.name for tensor in found.output} <= made


def test_a_request_for_any_output_runs_every_step():
    found = config("step_audio_editx_base")
    promised = {tensor.name for tensor in found.output}
    last = found.ensemble_scheduling.step[-1]
    for step in found.ensemble_scheduling.step:
        # Triton drops a step whose outputs are all ensemble outputs that the request leaves out.
        assert step is last or set(step.output_map.values()) - promised, step.model_name


def test_the_stream_takes_what_the_ensemble_takes_and_passes_all_of_it_on():
    stream, ensemble = (config(f"step_audio_editx_{name}") for name in ("stream", "base"))
    assert {tensor.name for tensor in stream.input} == {tensor.name for tensor in ensemble.input} | {"variant", "op"}
    assert {tensor.name for tensor in stream.output} >= {tensor.name for tensor in ensemble.output}
    passed_on = {*routing.VOICE_INPUTS, *routing.LLM_INPUTS, *routing.FLOW_INPUTS}
    assert passed_on == {tensor.name for tensor in ensemble.input} - {"cancel_id"}, (
        "the stream cancels by ids of its own"
    )
