import json

import numpy as np
import pytest

from python_backend.chat.request import ChatRequest, Sampling, parse
from python_backend.errors import InvalidInput

DEFAULTS = Sampling(0.7, 0.9, 20)
HI = [{"role": "user", "content": "hi", "name": "x"}]


class Tensors(dict):
    """Stands for the inputs of a Triton request."""

    def text(self, name, default=None):
        return self.get(name, default)

    def scalar(self, name, _, default=None):
        return self.get(name, default)

    def array(self, name, *_):
        return np.array(self[name], dtype=object)


def request(messages=HI, **more):
    return parse(Tensors(messages=messages if isinstance(messages, str) else json.dumps(messages), **more), DEFAULTS)


def test_defaults_and_what_is_given():
    assert request() == ChatRequest([{"role": "user", "content": "hi"}], DEFAULTS, None, ())
    given = request(temperature=0.0, top_p=0.5, top_k=3, max_tokens=7, stop=[b"a", "，".encode()])
    assert given.sampling == Sampling(0.0, 0.5, 3)
    assert (given.max_tokens, given.stop) == (7, ("a", "，"))


@pytest.mark.parametrize(
    ("field", "tensors"),
    [
        ("messages", {"messages": "{"}),
        ("messages", {"messages": "[" * 100_000}),
        ("messages", {"messages": []}),
        ("messages", {"messages": {"role": "user"}}),
        ("messages", {"messages": [{"role": "robot", "content": "x"}]}),
        ("messages", {"messages": [{"role": "user", "content": ["x"]}]}),
        ("messages", {"messages": HI * 1001}),
        ("messages", {"messages": [{"role": "user", "content": "x" * 600_000}] * 2}),
        ("temperature", {"temperature": 2.1}),
        ("top_p", {"top_p": 0.0}),
        ("top_k", {"top_k": -1}),
        ("max_tokens", {"max_tokens": 0}),
        ("stop", {"stop": [b""]}),
        ("stop", {"stop": [b"a"] * 5}),
        ("stop", {"stop": [b"\xff"]}),
    ],
)
def test_each_fault_names_its_field(field, tensors):
    with pytest.raises(InvalidInput) as refusal:
        request(**tensors)
    assert refusal.value.field == field


def test_messages_are_needed():
    with pytest.raises(InvalidInput, match="messages: missing"):
        parse(Tensors(), DEFAULTS)
