"""Each rule of NVIDIA's backend, in the words a user will look for."""

import re
from dataclasses import replace

import pytest

from python_backend.onnxruntime_backend.config import ConfigError, ModelConfig, TensorConfig
from python_backend.onnxruntime_backend.validation import NetworkTensor, check

X, Y = TensorConfig("x", "TYPE_FP32", (-1, 4)), TensorConfig("y", "TYPE_INT32", (1,))
CONFIG = ModelConfig("net", 8, (X,), (Y,), "model.onnx", 0, {})
INPUTS = {"x": NetworkTensor("x", "tensor(float)", (-1, -1, 4))}
OUTPUTS = {
    "y": NetworkTensor("y", "tensor(int32)", (-1, 1)),
    "unlisted": NetworkTensor("unlisted", "tensor(float)", (-1,)),
}


def network(name, type_, *shape):
    return {name: NetworkTensor(name, type_, shape)}


def test_what_fits_is_accepted():
    check(CONFIG, INPUTS, OUTPUTS, {})
    check(replace(CONFIG, max_batch_size=0), network("x", "tensor(float)", -1, 4), network("y", "tensor(int32)", 1), {})
    check(replace(CONFIG, inputs=(replace(X, dims=(7, 4)),)), INPUTS, OUTPUTS, {})


REFUSED = {
    "more inputs configured": (
        replace(CONFIG, inputs=(X, replace(X, name="w"))), INPUTS, OUTPUTS, "expects 2 inputs, model provides 1",
    ),
    "an input the file lacks": (
        replace(CONFIG, inputs=(replace(X, name="xx"),)), INPUTS, OUTPUTS,
        "unexpected inference input 'xx', allowed inputs are: x",
    ),
    "an output the file lacks": (
        replace(CONFIG, outputs=(replace(Y, name="yy"),)), INPUTS, OUTPUTS,
        "unexpected inference output 'yy', allowed outputs are: unlisted, y",
    ),
    "another input type": (
        replace(CONFIG, inputs=(replace(X, data_type="TYPE_INT64"),)), INPUTS, OUTPUTS,
        "configuration expects datatype TYPE_INT64 for input 'x', model provides tensor(float)",
    ),
    "another output type": (
        replace(CONFIG, outputs=(replace(Y, data_type="TYPE_INT64"),)), INPUTS, OUTPUTS,
        "configuration expects datatype TYPE_INT64 for output 'y', model provides tensor(int32)",
    ),
    "a type numpy lacks": (
        replace(CONFIG, inputs=(replace(X, data_type="TYPE_BF16"),)), INPUTS, OUTPUTS, "unsupported datatype TYPE_BF16",
    ),
    "another rank": (
        replace(CONFIG, inputs=(replace(X, dims=(-1,)),)), INPUTS, OUTPUTS,
        "the model expects 3 dimensions (shape [-1,-1,4]) but the model configuration specifies 2",
    ),
    "another input size": (replace(CONFIG, inputs=(replace(X, dims=(-1, 5)),)), INPUTS, OUTPUTS, "(shape [-1,-1,5]"),
    "a free output configured as fixed": (
        CONFIG, INPUTS, network("y", "tensor(int32)", -1, -1), "tensor 'y': the model expects 2 dimensions",
    ),
    "a fixed output configured as free": (
        replace(CONFIG, outputs=(replace(Y, dims=(-1,)),)), INPUTS, OUTPUTS, "tensor 'y': the model expects 2",
    ),
    "a fixed batch": (
        CONFIG, network("x", "tensor(float)", 1, -1, 4), OUTPUTS, "the first dimension must be -1; but shape",
    ),
    "an optional input on a batching model": (
        replace(CONFIG, inputs=(X, TensorConfig("w", "TYPE_FP32", (1,), optional=True))), INPUTS, OUTPUTS,
        "optional input 'w' is not supported for models that support batching",
    ),
    "ragged batches": (replace(CONFIG, inputs=(replace(X, ragged=True),)), INPUTS, OUTPUTS, "allow_ragged_batch"),
    "a scalar configured with a size": (
        replace(CONFIG, max_batch_size=0, inputs=(replace(X, dims=(4,)),)), network("x", "tensor(float)"), OUTPUTS,
        "scalar tensor 'x', should only provide 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "inputs", "outputs", "message"), REFUSED.values(), ids=REFUSED)
def test_what_nvidia_refuses_is_refused(config, inputs, outputs, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(config, inputs, outputs, {})


def test_an_overridable_initializer_may_be_an_optional_input():
    weights = TensorConfig("w", "TYPE_FP32", (4,), optional=True)
    config = replace(CONFIG, max_batch_size=0, inputs=(X, weights))
    inputs, outputs = network("x", "tensor(float)", -1, 4), network("y", "tensor(int32)", 1)
    check(config, inputs, outputs, network("w", "tensor(float)", 4))
    with pytest.raises(ConfigError, match="unexpected inference input 'w'"):
        check(config, inputs, outputs, {})
