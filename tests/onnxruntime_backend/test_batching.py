import numpy as np
import pytest

from python_backend.onnxruntime_backend.batching import Request, run_batch


class Network:
    """y = 2x, z = -x; refuses any NaN; remembers its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, names, inputs):
        x = inputs["x"]
        self.calls.append((names, x.shape))
        if np.isnan(x).any():
            raise ValueError("NaN")
        return [{"y": 2 * x, "z": -x}[name] for name in names]


def request(*rows, outputs=("y",)):
    return Request({"x": np.array(rows, np.float32)}, tuple(outputs))


def test_equal_shapes_share_one_call_and_each_gets_its_own_rows():
    network = Network()
    answers = run_batch(network, [request([1, 2]), request([3, 4], [5, 6]), request([7, 8])], batched=True)
    assert network.calls == [(["y"], (4, 2))]
    np.testing.assert_array_equal(answers[0]["y"], [[2, 4]])
    np.testing.assert_array_equal(answers[1]["y"], [[6, 8], [10, 12]])
    np.testing.assert_array_equal(answers[2]["y"], [[14, 16]])


def test_different_shapes_are_calls_of_their_own_and_keep_their_order():
    network = Network()
    answers = run_batch(network, [request([1, 2]), request([3]), request([5, 6])], batched=True)
    assert [shape for _, shape in network.calls] == [(2, 2), (1, 1)]
    assert [answer["y"].tolist() for answer in answers] == [[[2, 4]], [[6]], [[10, 12]]]


def test_only_requested_outputs_are_computed_and_returned():
    network = Network()
    answers = run_batch(network, [request([1], outputs=["z"]), request([2], outputs=["z"])], batched=True)
    assert network.calls == [(["z"], (2, 1))]
    assert [set(answer) for answer in answers] == [{"z"}, {"z"}]
    mixed = run_batch(network, [request([1], outputs=["y"]), request([2], outputs=["z", "y"])], batched=True)
    assert [set(answer) for answer in mixed] == [{"y"}, {"y", "z"}]


def test_a_request_that_fails_fails_alone():
    good, bad, other = run_batch(Network(), [request([1]), request([np.nan]), request([3])], batched=True)
    assert good["y"].tolist() == [[2]]
    assert isinstance(bad, ValueError)
    assert other["y"].tolist() == [[6]]


def test_without_a_batch_dimension_every_request_is_a_call():
    network = Network()
    answers = run_batch(network, [request(1.0, 2.0), request(3.0, 4.0)], batched=False)
    assert [shape for _, shape in network.calls] == [(2,), (2,)]
    assert [answer["y"].tolist() for answer in answers] == [[2, 4], [6, 8]]


def test_an_output_that_loses_rows_is_an_error_not_a_mix_up():
    (answer,) = run_batch(lambda _names, inputs: [inputs["x"][:1]], [request([1], [2])], batched=True)
    assert isinstance(answer, ValueError)
    assert "output 'y' has shape [1, 1] for a batch of 2" in str(answer)


@pytest.mark.parametrize("batched", [True, False])
def test_no_requests_no_calls(batched):
    assert run_batch(Network(), [], batched=batched) == []
