"""The stand-in inside the real tritonserver."""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import servers
from tests.server import toy

pytestmark = pytest.mark.server
BATCHING = "dynamic_batching { max_queue_delay_microseconds: 100000 }\ninstance_group [{ count: 1 }]\n"
ONE = "instance_group [{ count: 1 }]\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    toy.onnx_model(repository, "net", BATCHING)
    toy.onnx_model(repository, "single", ONE, batched=False)
    pairs(repository)
    doubled(repository)
    running = servers.start("--model-repository", str(repository), "--no-gateway")
    running.repository = repository
    yield running
    running.stop()


def pairs(repository):
    """A network that takes an even number of values only, which Triton's configuration cannot say."""
    toy.onnx_model(repository, "pairs", ONE, batched=False)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["t"]) for name in "xy")
    nodes = [
        helper.make_node("Reshape", ["x", "two_columns"], ["p"]),
        helper.make_node("ReduceSum", ["p", "last"], ["y"]),
    ]
    nodes[1].attribute.append(helper.make_attribute("keepdims", 0))
    constants = [
        helper.make_tensor("two_columns", TensorProto.INT64, [2], [-1, 2]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
    ]
    save(repository, "pairs", nodes, [x], [y], constants)
    (repository / "pairs" / "config.pbtxt").write_text(f'name: "pairs"\nbackend: "onnxruntime"\n{toy.IN_OUT}{ONE}')


def doubled(repository):
    """Text in and out, and a network output of rank 0."""
    (repository / "doubled" / "1").mkdir(parents=True)
    text = helper.make_tensor_value_info("text", TensorProto.STRING, ["n"])
    twice = helper.make_tensor_value_info("twice", TensorProto.STRING, ["n"])
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    nodes = [
        helper.make_node("StringConcat", ["text", "text"], ["twice"]),
        helper.make_node("Size", ["text"], ["count"]),
    ]
    save(repository, "doubled", nodes, [text], [twice, count], [])
    (repository / "doubled" / "config.pbtxt").write_text(
        'name: "doubled"\nbackend: "onnxruntime"\n'
        'input { name: "text" data_type: TYPE_STRING dims: [ -1 ] }\n'
        'output { name: "twice" data_type: TYPE_STRING dims: [ -1 ] }\n'
        f'output {{ name: "count" data_type: TYPE_INT64 dims: [ 1 ] }}\n{ONE}'
    )


def save(repository, name, nodes, inputs, outputs, constants):
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(network, repository / name / "1" / "model.onnx")


def executions(server, model):
    with urllib.request.urlopen(f"http://{server.http_url}/v2/models/{model}/stats") as answer:
        return json.loads(answer.read())["model_stats"][0]["execution_count"]


def outputs(answer):
    status, body = answer
    assert status == 200, body
    return {entry["name"]: np.array(entry["data"]).reshape(entry["shape"]) for entry in body["outputs"]}


def test_sixteen_equal_requests_at_once_take_at_most_four_executions(server):
    before = executions(server, "net")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: toy.infer(server.http_url, "net", [n, 0.5], batched=True), range(16)))
    for number, answer in enumerate(answers):
        np.testing.assert_allclose(outputs(answer)["y"], [[2 * number + 1, 2]])
    assert executions(server, "net") - before <= 4


def test_requests_of_different_lengths_at_once_get_their_own_answers(server):
    with ThreadPoolExecutor(6) as pool:
        answers = pool.map(lambda n: toy.infer(server.http_url, "net", [float(n)] * n, batched=True), range(1, 7))
    for number, answer in enumerate(answers, start=1):
        np.testing.assert_allclose(outputs(answer)["z"], [[-number] * number])


def test_only_the_requested_outputs_come(server):
    assert set(outputs(toy.infer(server.http_url, "net", [1.0], batched=True))) == {"y", "z"}
    assert set(outputs(toy.infer(server.http_url, "net", [1.0], batched=True, outputs=[{"name": "z"}]))) == {"z"}


def test_a_model_without_a_batch_dimension(server):
    np.testing.assert_allclose(outputs(toy.infer(server.http_url, "single", [1.0, 2.0]))["y"], [3, 5])


def test_an_error_of_the_network_is_told_without_a_trace_and_the_model_serves_on(server):
    status, body = toy.infer(server.http_url, "pairs", [1.0, 2.0, 3.0])
    assert status == 500
    assert body["error"].startswith("onnx runtime error:")
    assert "Reshape" in body["error"]
    assert ".py" not in body["error"]
    np.testing.assert_allclose(outputs(toy.infer(server.http_url, "pairs", [1.0, 2.0]))["y"], [3])


def test_text_and_scalars_pass_in_triton_s_form(server):
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["some", "words"]}]}
    answer = outputs(toy.post(f"http://{server.http_url}/v2/models/doubled/infer", body))
    assert answer["twice"].tolist() == ["somesome", "wordswords"]
    assert answer["count"].tolist() == [2]


def load(server, name):
    return toy.post(f"http://{server.http_url}/v2/repository/models/{name}/load", {})


def test_a_configuration_that_does_not_fit_is_refused_at_load(server):
    toy.onnx_model(server.repository, "unfit", ONE.replace("\n", "") + "\n")
    config = server.repository / "unfit" / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "x"', 'name: "xx"'))
    status, body = load(server, "unfit")
    assert status == 400
    assert "unexpected inference input 'xx', allowed inputs are: x" in body["error"]


def test_a_tensorrt_plan_is_refused_with_the_way_out(server):
    (server.repository / "plan" / "1").mkdir(parents=True)
    (server.repository / "plan" / "1" / "model.plan").touch()
    (server.repository / "plan" / "config.pbtxt").write_text(f'name: "plan"\nbackend: "tensorrt"\n{toy.IN_OUT}{ONE}')
    status, body = load(server, "plan")
    assert status == 400
    assert "TensorRT engines need a GPU and NVIDIA's Triton container" in body["error"]
