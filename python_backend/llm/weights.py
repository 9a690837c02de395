"""Step1 weights on disk: safetensors in one file or several, linear layers plain or in 4 bits."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from python_backend.llm.config import Step1Config
from python_backend.llm.quantised import PackedWeight, packed_weights
from python_backend.llm.step1 import Step1, parameter_shapes

_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_HEAD = "lm_head"


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
    """Compare names and shapes on disk with what `config` asks for, without reading plain tensors.

    Raises:
        ValueError: a tensor is missing or has another shape, a 4-bit form is unknown or broken, or a file is not
            safetensors.
    """
    with TensorFiles(directory) as tensors:
        _check(directory, config, tensors, _packed(directory, tensors))


def load(directory: Path, device: torch.device, dtype: torch.dtype) -> Step1:
    """Return the model of `directory` (`config.json`, `*.safetensors`), ready for inference.

    4-bit layers stay packed where a kernel multiplies with them as they are, on a GPU; elsewhere they become dense ones
    when loaded. The head is always dense: its rows are taken apart.

    Raises:
        ValueError: the files do not fit each other.
    """
    config = Step1Config.from_file(directory / "config.json")
    with torch.device("meta"):
        model = Step1(config)
    with TensorFiles(directory) as tensors:
        packed = _packed(directory, tensors)
        _check(directory, config, tensors, packed)
        for layer, weight in packed.items():
            if layer != _HEAD and (module := weight.layer(device, dtype)) is not None:
                model.set_submodule(layer, module)
        plain = {}
        for name in dict(model.named_parameters()):
            layer = name.removesuffix(".weight")
            plain[name] = (packed[layer].dense() if layer in packed else tensors[name]).to(device, dtype)
    model.load_state_dict(plain, assign=True)
    model.slope = Step1.slopes(config).to(device)
    return model.eval().requires_grad_(False)


def stored_dtype(directory: Path) -> torch.dtype:
    """Return the dtype the embedding is stored in, which no 4-bit form packs."""
    with TensorFiles(directory) as tensors:
        return _DTYPES[tensors.header("model.embed_tokens.weight").get_dtype()]


class TensorFiles(Mapping[str, torch.Tensor]):
    """The tensors of a folder's files by name, read when asked for.

    Raises:
        ValueError: there is no file, or one is not safetensors.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._open = ExitStack()
        self._files: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for path in weight_files(self._directory):
            try:
                file = self._open.enter_context(safe_open(path, framework="pt"))
            except SafetensorError as error:
                raise ValueError(f"{path}: {error}") from error
            self._files |= dict.fromkeys(file.keys(), file)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def header(self, name: str) -> Any:
        """Return what a file says about a tensor before its data."""
        if name not in self._files:
            raise ValueError(f"{self._directory} lacks {name}")
        return self._files[name].get_slice(name)


def _packed(directory: Path, tensors: TensorFiles) -> dict[str, PackedWeight]:
    content = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    try:
        return packed_weights(content, tensors)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error


def _check(directory: Path, config: Step1Config, tensors: TensorFiles, packed: Mapping[str, PackedWeight]) -> None:
    expected = parameter_shapes(config)
    found = {name: tuple(tensors.header(name).get_shape()) for name in tensors}
    found |= {f"{layer}.weight": weight.shape for layer, weight in packed.items()}
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise ValueError(f"{directory} lacks {len(missing)} of {len(expected)} tensors, first {missing[0]}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"{directory}: {name} has shape {list(found[name])}, config.json asks for {list(shape)}")
