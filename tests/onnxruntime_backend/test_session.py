from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from python_backend.onnxruntime_backend.config import ConfigError, ModelConfig, TensorConfig
from python_backend.onnxruntime_backend.session import open_session, session_options
from tests.server.toy import onnx_model

TENSORS = {name: TensorConfig(name, "TYPE_FP32", (-1,)) for name in "xyz"}
CONFIG = ModelConfig("net", 8, (TENSORS["x"],), (TENSORS["y"], TENSORS["z"]), "model.onnx", 0, {})


@pytest.fixture
def folder(tmp_path):
    onnx_model(tmp_path, "net")
    return tmp_path / "net" / "1"


def test_it_opens_and_runs(folder):
    session = open_session(CONFIG, folder, {})
    y, z = session.run(["y", "z"], {"x": np.array([[1.0, 2.0]], np.float32)})
    np.testing.assert_array_equal(y, [[3, 5]])
    np.testing.assert_array_equal(z, [[-1, -2]])


def test_the_network_is_checked(folder):
    with pytest.raises(ConfigError, match="unexpected inference output 'w'"):
        open_session(replace(CONFIG, outputs=(replace(TENSORS["y"], name="w"),)), folder, {})


def test_a_missing_file_says_how_to_make_it(folder):
    with pytest.raises(ConfigError, match=r"other\.onnx.*python -m export build"):
        open_session(replace(CONFIG, filename="other.onnx"), folder, {})


def test_a_broken_file_is_named(folder):
    (folder / "model.onnx").write_bytes(b"not a network")
    with pytest.raises(ConfigError, match=r"unable to load .*model\.onnx' for model 'net'"):
        open_session(CONFIG, folder, {})


def test_the_model_s_own_thread_count_wins_over_its_budget_and_that_over_the_common_one():
    common = {"ONNXRUNTIME_THREADS": "6"}
    own = common | {"ONNXRUNTIME_THREADS_NET": "2"}
    configured = replace(CONFIG, parameters={"intra_op_thread_count": "5"})
    assert session_options(CONFIG, {}).intra_op_num_threads == 0
    assert session_options(CONFIG, common).intra_op_num_threads == 6
    assert session_options(CONFIG, own).intra_op_num_threads == 2
    assert session_options(configured, own).intra_op_num_threads == 5


def test_the_keys_of_nvidia_s_backend_are_honoured():
    parameters = {
        "inter_op_thread_count": "2",
        "execution_mode": "1",
        "enable_mem_arena": "0",
        "enable_mem_pattern": "false",
    }
    options = session_options(replace(CONFIG, graph_level=2, parameters=parameters), {})
    assert options.inter_op_num_threads == 2
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    usual = session_options(CONFIG, {})
    assert usual.enable_cpu_mem_arena
    assert usual.enable_mem_pattern
    assert usual.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert usual.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize(("key", "value"), [("execution_mode", "2"), ("enable_mem_arena", "yes")])
def test_a_value_out_of_range_is_named(key, value):
    with pytest.raises(ConfigError, match=f"parameter {key} must be .*{value}"):
        session_options(replace(CONFIG, parameters={key: value}), {})
