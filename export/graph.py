"""Writing a torch module as an ONNX graph."""

import tempfile
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
    # By their paths: a graph in Python's hands would be copied several times, and released ones take a gigabyte.
    onnx.checker.check_model(str(path))
    with tempfile.TemporaryDirectory() as work:
        inferred = str(Path(work) / path.name)
        onnx.shape_inference.infer_shapes_path(str(path), inferred, check_type=True, strict_mode=True, data_prop=True)
