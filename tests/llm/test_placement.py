import pytest
import torch

from python_backend import error_text
from python_backend.errors import Cancelled, InvalidInput, RequestError, Unavailable
from python_backend.llm import placement

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("gpu", "name", "expected"), [(False, "auto", CPU), (True, "auto", CUDA), (True, "cpu", CPU)])
def test_device(monkeypatch, gpu, name, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert placement.device(name) == expected


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU"):
        placement.device("cuda")
    with pytest.raises(ValueError, match="must be auto, cpu or cuda"):
        placement.device("tpu")


@pytest.mark.parametrize(
    ("amx", "name", "on", "stored", "expected"),
    [
        (False, "auto", CPU, torch.bfloat16, torch.float32),
        (True, "auto", CPU, torch.bfloat16, torch.bfloat16),
        (True, "auto", CPU, torch.float32, torch.float32),
        (False, "auto", CUDA, torch.bfloat16, torch.bfloat16),
        (True, "float32", CPU, torch.bfloat16, torch.float32),
        (False, "bfloat16", CPU, torch.float32, torch.bfloat16),
    ],
)
def test_dtype(monkeypatch, amx, name, on, stored, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert placement.dtype(name, on, stored) is expected


def test_a_dtype_without_meaning_is_refused():
    with pytest.raises(ValueError, match="must be auto, float32 or bfloat16"):
        placement.dtype("int8", CPU, torch.float32)


@pytest.mark.parametrize(
    "error", [InvalidInput("text", "is: missing"), Unavailable("queue full: 3"), Cancelled("gone")]
)
def test_errors_survive_as_text(error):
    found = error_text.from_text(error_text.to_text(error))
    assert isinstance(found, RequestError)
    assert (str(found), found.triton_code) == (str(error), error.triton_code)


def test_an_unexpected_error_is_internal_and_named():
    found = error_text.from_text(error_text.to_text(KeyError("x")))
    assert found.triton_code == "INTERNAL"
    assert str(found) == "internal error: KeyError: 'x'"
