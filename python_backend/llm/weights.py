"""Step1 weights on disk: safetensors in one file or several."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from python_backend.llm.config import Step1Config
from python_backend.llm.step1 import Step1, parameter_shapes

_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of `directory`.

    Raises:
        ValueError: there is none.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{directory} holds no *.safetensors file")
    return files


def check_weights(directory: Path, config: Step1Config) -> None:
    """Compare names and shapes on disk with what `config` asks for, reading only the files' headers.

    Raises:
        ValueError: a tensor is missing or has another shape, or a file is not safetensors.
    """
    expected = parameter_shapes(config)
    found: dict[str, tuple[int, ...]] = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, framework="pt") as file:
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path}: {error}") from error
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise ValueError(f"{directory} lacks {len(missing)} of {len(expected)} tensors, first {missing[0]}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"{directory}: {name} has shape {list(found[name])}, config.json asks for {list(shape)}")


def load(directory: Path, device: torch.device, dtype: torch.dtype) -> Step1:
    """Return the model of `directory` (`config.json`, `*.safetensors`), ready for inference.

    Raises:
        ValueError: the files do not fit each other.
    """
    config = Step1Config.from_file(directory / "config.json")
    check_weights(directory, config)
    with torch.device("meta"):
        model = Step1(config)
    wanted = dict(model.named_parameters())
    tensors = {name: value.to(device, dtype) for name, value in _tensors(directory) if name in wanted}
    model.load_state_dict(tensors, assign=True)
    model.slope = Step1.slopes(config).to(device)
    return model.eval().requires_grad_(False)


def stored_dtype(directory: Path) -> torch.dtype:
    """Return the dtype the output head is stored in."""
    for path in weight_files(directory):
        with safe_open(path, framework="pt") as file:
            if "lm_head.weight" in file.keys():  # noqa: SIM118
                return _DTYPES[file.get_slice("lm_head.weight").get_dtype()]
    raise ValueError(f"{directory} lacks lm_head.weight")


def _tensors(directory: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with ExitStack() as stack:
        for path in weight_files(directory):
            file = stack.enter_context(safe_open(path, framework="pt"))
            for name in file.keys():  # noqa: SIM118
                yield name, file.get_tensor(name)
