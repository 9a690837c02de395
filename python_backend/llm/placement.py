"""Which device and dtype the model runs in, from the model's configuration and the machine."""

from collections.abc import Callable

import torch


def device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`; `auto` takes a GPU where there is one.

    Raises:
        ValueError: another name, or `cuda` without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"parameter device is {name!r}, must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("parameter device is cuda, but torch finds no GPU")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def dtype(name: str, on: torch.device, stored: torch.dtype) -> torch.dtype:
    """Return the dtype called `auto`, `float32` or `bfloat16`.

    `auto` keeps bfloat16 weights as they are where the device multiplies them natively (a GPU, or a CPU with AMX), and
    takes float32 elsewhere.

    Raises:
        ValueError: another name.
    """
    if name in ("float32", "bfloat16"):
        return torch.float32 if name == "float32" else torch.bfloat16
    if name != "auto":
        raise ValueError(f"parameter dtype is {name!r}, must be auto, float32 or bfloat16")
    native = on.type == "cuda" or _has_amx()
    return torch.bfloat16 if native and stored is torch.bfloat16 else torch.float32


def _has_amx() -> bool:
    check: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", bool)  # torch 2.4 lacks it
    return check()
