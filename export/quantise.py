"""Step1 in 4 bits, in the files the released variants come in, packed by the libraries that define them."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from export.checkpoint import CheckpointError
from python_backend.llm.config import Step1Config
from python_backend.llm.step1 import parameter_shapes
from python_backend.llm.weights import TensorFiles, check_weights

FOLDERS = {"bnb": "Step-Audio-EditX-bnb-4bit", "awq": "Step-Audio-EditX-AWQ-4bit"}
PLAIN = ("lm_head",)
"""Layers that keep their dtype, as in the releases."""
NF4_BLOCK = 64
W4A16_GROUP = 128

Pack = Callable[[torch.Tensor], dict[str, torch.Tensor]]
"""Turns the matrix of a layer into the tensors that are stored for it, by the end of their names."""


def quantise(
    source: Path, destination: Path, variant: str, plain: Sequence[str] = PLAIN, symmetric: bool = True
) -> None:
    """Write the language model of `source` to `destination` in 4 bits; its tokenizer comes along.

    `bnb` is NF4 with double quantisation, as bitsandbytes makes it of any model. `awq` is W4A16, numbers rounded to
    the nearest: the form of the AWQ release, without AWQ itself, which first scales the weights by what passes through
    the network on recorded speech.

    Args:
        source: holds `config.json` and `*.safetensors`, not quantised.
        destination: a folder, made where missing.
        variant: `bnb` or `awq`.
        plain: layers that keep their dtype.
        symmetric: form of `awq`.

    Raises:
        CheckpointError: `source` cannot be used, or the library that defines the form is not installed.
    """
    try:
        config = Step1Config.from_file(source / "config.json")
        check_weights(source, config)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    content = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in content:
        raise CheckpointError(f"{source} is quantised already")
    try:
        pack, content["quantization_config"] = _nf4(plain) if variant == "bnb" else _w4a16(config, plain, symmetric)
    except ImportError as error:
        raise CheckpointError(f"the variant {variant} needs its library: pip install {error.name}") from error

    matrices = {f"{layer}.weight" for layer in linear_layers(config)} - {f"{layer}.weight" for layer in plain}
    written: dict[str, torch.Tensor] = {}
    with TensorFiles(source) as tensors:
        for name in parameter_shapes(config):
            if name in matrices:
                written |= {name + part: tensor.contiguous() for part, tensor in pack(tensors[name]).items()}
            else:
                written[name] = tensors[name]
    destination.mkdir(parents=True, exist_ok=True)
    (destination / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_file(written, destination / "model.safetensors", metadata={"format": "pt"})
    for path in source.glob("tokenizer*"):
        shutil.copy2(path, destination)


def linear_layers(config: Step1Config) -> list[str]:
    """Return the names of the linear layers, the head among them."""
    matrices = (name for name, shape in parameter_shapes(config).items() if len(shape) == 2)
    return [name.removesuffix(".weight") for name in matrices if name != "model.embed_tokens.weight"]


def _nf4(plain: Sequence[str]) -> tuple[Pack, dict[str, Any]]:
    from bitsandbytes.functional import quantize_4bit

    def pack(weight: torch.Tensor) -> dict[str, torch.Tensor]:
        packed, state = quantize_4bit(weight, blocksize=NF4_BLOCK, compress_statistics=True, quant_type="nf4")
        return {"": packed, **{f".{name}": tensor for name, tensor in state.as_dict(packed=True).items()}}

    return pack, {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_skip_modules": list(plain),
    }


def _w4a16(config: Step1Config, plain: Sequence[str], symmetric: bool) -> tuple[Pack, dict[str, Any]]:
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    group = math.gcd(W4A16_GROUP, config.hidden_size, config.intermediate_size)
    weights = QuantizationArgs(num_bits=4, type="int", symmetric=symmetric, strategy="group", group_size=group)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights, format="pack-quantized")

    def pack(weight: torch.Tensor) -> dict[str, torch.Tensor]:
        groups = weight.view(len(weight), -1, group)
        scale, zero_point = calculate_qparams(groups.amin(-1), groups.amax(-1), weights)
        parts = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero_point}
        packed = PackedQuantizationCompressor.compress(parts, scheme)
        return {name.removeprefix("weight"): tensor for name, tensor in packed.items()}

    quantization = QuantizationConfig(
        config_groups={"group_0": scheme},
        ignore=list(plain),
        format="pack-quantized",
        quantization_status="compressed",
    )
    return pack, quantization.to_dict()
