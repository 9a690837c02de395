"""ONNX files at half the size: weights stored as float16 and cast back when a session loads them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 256  # elements; below it nothing is gained


def store_half(path: Path) -> None:
    """Rewrite the network at `path`: large float32 weights become float16 with a `Cast` behind each.

    ONNX Runtime folds the casts when it opens the file, so computing stays in float32.
    """
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for weight in list(graph.initializer):
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < SMALLEST:
            continue
        stored = f"{weight.name}_half"
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [weight.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)
