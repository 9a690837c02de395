import pytest

from python_backend.onnxruntime_backend.config import ConfigError, TensorConfig, read

CONFIG = {
    "name": "net",
    "max_batch_size": 8,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["-1"], "optional": False}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["2", "3"], "reshape": {"shape": ["6"]}}],
    "default_model_filename": "",
    "parameters": {"intra_op_thread_count": {"string_value": "3"}, "execution_mode": {"string_value": "fast"}},
    "optimization": {"graph": {"level": -1}},
}


def test_it_reads_what_it_needs():
    config = read(CONFIG)
    assert (config.name, config.max_batch_size, config.batched, config.graph_level) == ("net", 8, True, -1)
    assert config.filename == "model.onnx"
    assert config.inputs == (TensorConfig("x", "TYPE_FP32", (-1,)),)
    assert config.outputs[0].dims == (6,), "the network sees the reshaped form"
    assert config.integer("intra_op_thread_count") == 3
    assert config.integer("inter_op_thread_count") is None


def test_the_model_file_may_have_another_name():
    assert read(CONFIG | {"default_model_filename": "other.onnx"}).filename == "other.onnx"


def test_a_parameter_that_is_no_number_is_named():
    with pytest.raises(ConfigError, match="parameter execution_mode must be a whole number, is 'fast'"):
        read(CONFIG).integer("execution_mode")


@pytest.mark.parametrize("feature", ["batch_input", "batch_output", "sequence_batching"])
def test_features_only_the_native_backend_has_are_refused(feature):
    with pytest.raises(ConfigError, match=feature):
        read(CONFIG | {feature: [{}]})
