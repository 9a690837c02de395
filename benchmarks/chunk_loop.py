"""The linguistic encoder as it streams: once per four frames, with caches. The baseline of the whole-clip form."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from export.sanm_encoder import LOOK_BACK, NEW, OVERLAP, Layer, SanmEncoder

Encode = Callable[[Tensor], Tensor]


def original_chunk_loop(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Encode:
    """Return the chunk loop of a Step-Audio-EditX checkout: features [T, inputs] → [T, size].

    Args:
        folder: the checkout; its `funasr_detach` is imported.
        config: `config.yaml` of the Paraformer folder.
        weights: the encoder's, by their released names without `encoder.`.
    """
    inputs = config["frontend_conf"]["n_mels"] * config["frontend_conf"]["lfr_m"]
    encoder = _original_encoder_class(folder)(input_size=inputs, **config["encoder_conf"])
    encoder.load_state_dict(weights)
    encoder.eval()

    def encode(features: Tensor) -> Tensor:
        cache = {
            "start_idx": 0,
            "chunk_size": [0, NEW, OVERLAP],
            "encoder_chunk_look_back": LOOK_BACK,
            "opt": None,
            "feats": torch.zeros(1, OVERLAP, inputs),
            "tail_chunk": False,
        }
        outputs = []
        for chunk in features.split(NEW):
            length = torch.tensor([len(chunk)])
            output, _, _ = encoder.forward_chunk(chunk[None].clone(), length, cache=cache)
            outputs.append(output[0, -len(chunk) :])
        return torch.cat(outputs)

    return encode


def _original_encoder_class(folder: Path) -> Any:
    """Import the encoder alone: the package's own initialisation wants dozens of packages that the encoder does not."""
    package = ModuleType("funasr_detach")
    package.__path__ = [str(folder / "funasr_detach")]
    sys.modules.setdefault("funasr_detach", package)
    sys.modules.setdefault("funasr", ModuleType("funasr"))  # imported there and not used
    return importlib.import_module("funasr_detach.models.scama.encoder").SANMEncoderChunkOpt


def own_chunk_loop(encoder: SanmEncoder) -> Encode:
    """Return a plain chunk loop over `encoder`'s weights, for want of the original: [T, inputs] → [T, size]."""
    layers: list[Layer] = [*encoder.encoders0, *encoder.encoders]

    def encode(features: Tensor) -> Tensor:
        x = features * encoder.size**0.5 + encoder.positions[: len(features)]
        overlap = x.new_zeros(OVERLAP, x.shape[1])
        memory = [x.new_zeros(0, 2 * encoder.size)] * len(layers)
        outputs = []
        for new in x.split(NEW):
            window = torch.cat([overlap, new])
            overlap = window[-OVERLAP:]
            for i, layer in enumerate(layers):
                query, own = layer.project(window).split([encoder.size, 2 * encoder.size], dim=1)
                attended = _attend(layer, query, own, memory[i])
                memory[i] = torch.cat([memory[i], own[:-OVERLAP]])[-LOOK_BACK * NEW :]
                window = layer.feed(attended if i == 0 else window + attended)
            outputs.append(encoder.after_norm(window[-len(new) :]))
        return torch.cat(outputs)

    return encode


def _attend(layer: Layer, query: Tensor, own: Tensor, memory: Tensor) -> Tensor:
    attention = layer.self_attn
    keys, values = torch.cat([memory, own]).chunk(2, dim=1)
    by_head = [part.unflatten(1, (attention.heads, -1)).transpose(0, 1)[None] for part in (query, keys, values)]
    attended = F.scaled_dot_product_attention(*by_head)[0].transpose(0, 1).flatten(1)
    value = own[:, attention.size :]
    taps = attention.fsmn_block.weight
    sequential = F.conv1d(value.T[None], taps, padding=taps.shape[2] // 2, groups=attention.size)[0].T + value
    return attention.linear_out(attended) + sequential
