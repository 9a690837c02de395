"""Small model repositories that show one behaviour each, served by the real tritonserver within a second."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

IN_OUT = (
    'input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }\noutput { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }\n'
)
ONE_PROCESS = "instance_group [{ kind: KIND_CPU count: 1 }]\n"

ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        read = pb_utils.get_input_tensor_by_name
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", read(r, "x").as_numpy())]) for r in requests]
"""
# Answers from a thread after x[0] seconds: the requests it holds die with it. Beside its folder, `AT_WORK` appears.
AT_WORK = "at-work"
HOLD = """
import time
from pathlib import Path
import numpy as np
from python_backend.serving import UnaryWorkers

class TritonPythonModel:
    def initialize(self, args):
        self.at_work = Path(args["model_repository"]).parent / "at-work"
        self.workers = UnaryWorkers(self.answer, 4)
    def answer(self, inputs):
        x = inputs.array("x", np.float32, (None,))
        self.at_work.touch()
        time.sleep(float(x[0]))
        return {"y": x}
    def execute(self, requests):
        self.workers.execute(requests)
    def finalize(self):
        self.workers.close()
"""
# Answers within the call after x[0] seconds: Triton notices its death by itself.
COMPUTE = """
import time
from pathlib import Path
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.at_work = Path(args["model_repository"]).parent / "at-work"
    def execute(self, requests):
        x = pb_utils.get_input_tensor_by_name(requests[0], "x").as_numpy()
        self.at_work.touch()
        time.sleep(float(x[0]))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]) for _ in requests]
"""
SLOW_START = """
import time

class TritonPythonModel:
    def initialize(self, args):
        time.sleep(30)
    def execute(self, requests):
        return []
"""
BROKEN = """
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("no luck today")
"""


def python_model(repository: Path, name: str, code: str, config: str = "") -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code)
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "python"\n{IN_OUT}{ONE_PROCESS}{config}')


def onnx_model(repository: Path, name: str, config: str = "", batched: bool = True) -> None:
    """`y` is 2x + 1 and `z` is -x; both of any length, the length checked by Triton's configuration only."""
    shape = ["n", "t"] if batched else ["t"]
    x, y, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xyz")
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("two", 2.0), ("one", 1.0))
    ]
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "one"], ["y"]),
        helper.make_node("Neg", ["x"], ["z"]),
    ]
    graph = helper.make_graph(nodes, name, [x], [y, z], constants)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    onnx.save(network, folder / "model.onnx")
    negative = 'output { name: "z" data_type: TYPE_FP32 dims: [ -1 ] }\n'
    header = f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {8 if batched else 0}\n'
    (repository / name / "config.pbtxt").write_text(f"{header}{IN_OUT}{negative}{config}")


def ensemble(repository: Path, name: str, first: str, second: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    steps = "".join(
        f'step {{ model_name: "{member}" model_version: -1 '
        f'input_map {{ key: "x" value: "{source}" }} output_map {{ key: "y" value: "{target}" }} }}\n'
        for member, source, target in ((first, "x", "between"), (second, "between", "y"))
    )
    (repository / name / "config.pbtxt").write_text(
        f'name: "{name}"\nplatform: "ensemble"\n{IN_OUT}ensemble_scheduling {{\n{steps}}}\n'
    )


def post(url: str, body: Any, timeout: float = 30) -> tuple[int, Any]:
    """Return status and JSON answer; a connection that breaks raises `OSError`."""
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def infer(http_url: str, model: str, x: list[float], batched: bool = False, timeout: float = 30, **extra: Any):
    shape = [1, len(x)] if batched else [len(x)]
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": x}], **extra}
    return post(f"http://{http_url}/v2/models/{model}/infer", body, timeout)
