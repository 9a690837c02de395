"""Writing a torch module as an ONNX graph."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import nn

OPSET = 17


def save_graph(
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: list[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    path: Path,
) -> None:
    """Trace `module` on `inputs`, given in order and by name, and check the graph written to `path`.

    The tracing exporter is used because its graphs are nearer to eager torch than those of the newer one.

    Raises:
        onnx.checker.ValidationError: the graph is not valid ONNX.
        onnx.shape_inference.InferenceError: shapes inside it contradict one another.
    """
    with torch.no_grad(), warnings.catch_warnings():
        # The tracer warns of every shape it reads as a constant; the tests run other shapes than these.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: dict(axes) for name, axes in dynamic_axes.items()},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True, data_prop=True)
