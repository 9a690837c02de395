"""Puts features in front of a released ONNX network that takes one clip, and makes a model that takes a padded batch.

Such a network is opaque: it has no mask, so padding would change its answer. An ONNX `Loop` runs it clip by clip, each
at its true length, inside one graph.
"""

import tempfile
from collections.abc import Mapping, MutableSequence
from pathlib import Path
from string import Template

import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto
from onnx.compose import add_prefix
from torch import nn

from export.checkpoint import CheckpointError

OLDEST_OPSET = 11  # the first whose Slice, Pad and Loop have the form written here
OLDEST_IR = 8

# A clip shorter than $shortest is taken to be that long, so that the network can run at all.
PER_CLIP = Template("""
<ir_version: 8, opset_import: ["" : 17]>
$name (float[batch, samples] audio, int32[batch, 1] audio_length) => ($outputs)
<int64[1] shortest = {$shortest}, int64[2] room = {0, $shortest}, int64[1] start = {0}, int64[2] one_row = {1, -1},
 int64[1] flat = {-1}, int64 batch_axis = {0}, bool always = {1} $constants>
{
    audio_shape = Shape(audio)
    clips = Gather(audio_shape, batch_axis)
    $before
    $results = Loop <body = one_clip (int64 row, bool go_on) => (bool go_on_still, $row_outputs) {
        go_on_still = Identity(go_on)
        row_length_int32 = Gather(audio_length, row)
        row_length = Cast<to = 7>(row_length_int32)
        too_short = Less(row_length, shortest)
        clip_length = Where(too_short, shortest, row_length)
        row_audio = Gather(audio, row)
        row_padded = Pad(row_audio, room)
        row_clip = Slice(row_padded, start, clip_length)
        clip = Reshape(row_clip, one_row)
        $per_clip
    }> (clips, always)
}
""")


def opset_of(network: ModelProto) -> int:
    """Return the version of the standard operators that `network` uses.

    Raises:
        CheckpointError: it is older than this module can extend.
    """
    version = next(entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx"))
    if version < OLDEST_OPSET:
        raise CheckpointError(f"the network uses ONNX operator set {version}; at least {OLDEST_OPSET} is needed")
    return int(version)


def inputs_of(graph: GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the true inputs of a graph: old files list their weights among them."""
    weights = {weight.name for weight in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def front_end(module: nn.Module, example: torch.Tensor, outputs: int, opset: int) -> GraphProto:
    """Export a module that takes clips [1, samples]; all names of the graph start with `features/`."""
    with tempfile.TemporaryDirectory() as work, torch.inference_mode():
        file = Path(work) / "features.onnx"
        torch.onnx.export(
            module.eval(),
            (example,),
            file,
            input_names=["clip"],
            output_names=[f"output_{i}" for i in range(outputs)],
            dynamic_axes={"clip": {1: "samples"}},
            opset_version=opset,
            dynamo=False,
        )
        return add_prefix(onnx.load(file), "features/").graph


def per_clip_model(
    network: ModelProto, front: GraphProto, name: str, shortest: int, outputs: Mapping[str, str], **text: str
) -> ModelProto:
    """Make the model `audio` float32 [batch, samples], `audio_length` int32 [batch, 1] → `outputs`.

    Args:
        network: the released model; its nodes and weights keep their names.
        front: the features.
        name: name of the graph.
        shortest: samples a clip is taken to have at least.
        outputs: each output's type in ONNX text, such as `int32[batch, 1]`.
        text: in ONNX text, `per_clip`: nodes that call `Features` and `Network` and make `row_<output>` of each output;
            `before`: nodes that run once; `constants`: what these two need, after a comma.

    Raises:
        onnx.checker.ValidationError: the result is not a valid model.
    """
    source = PER_CLIP.substitute(
        {"before": "", "constants": ""} | text,
        name=name,
        shortest=shortest,
        outputs=", ".join(f"{kind} {output}" for output, kind in outputs.items()),
        results=", ".join(outputs),
        row_outputs=", ".join(f"{kind.replace('batch, ', '')} row_{output}" for output, kind in outputs.items()),
    )
    model = onnx.parser.parse_model(source)
    body = model.graph.node[-1].attribute[0].g
    _inline(body, "Features", front)
    _inline(body, "Network", network.graph)
    del model.opset_import[:]
    model.opset_import.extend(network.opset_import)
    model.functions.extend(network.functions)
    model.ir_version = max(network.ir_version, OLDEST_IR)
    onnx.checker.check_model(model)
    return model


def _inline(graph: GraphProto, operator: str, part: GraphProto) -> None:
    """Replace the one call of `operator` in `graph` by the nodes and weights of `part`."""
    nodes = list(graph.node)
    place = next(i for i, node in enumerate(nodes) if node.op_type == operator)
    call = nodes[place]
    names = dict(zip([value.name for value in inputs_of(part)], call.input, strict=True))
    names |= dict(zip([value.name for value in part.output], call.output, strict=True))
    del graph.node[:]
    graph.node.extend(nodes[:place])
    first = len(graph.node)
    graph.node.extend(part.node)
    for node in graph.node[first:]:
        _rename(node, names)
    graph.node.extend(nodes[place + 1 :])
    graph.initializer.extend(part.initializer)


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    _rename_all(node.input, names)
    _rename_all(node.output, names)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                _rename(inner, names)
            for output in graph.output:
                output.name = names.get(output.name, output.name)


def _rename_all(values: MutableSequence[str], names: Mapping[str, str]) -> None:
    values[:] = [names.get(value, value) for value in values]
