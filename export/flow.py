"""Export of the flow: weights for torch, and its three graphs for ONNX Runtime and TensorRT."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from export.checkpoint import Checkpoint, CheckpointError, plain_yaml, state_dict
from export.graph import save_graph
from python_backend.token2wav.config import EncoderConfig, EstimatorConfig, FlowConfig
from python_backend.token2wav.flow import Flow
from python_backend.token2wav.torch_runtime import CONFIG, WEIGHTS

LINEAR_INPUT = "linear"


def read_config(vocoder_dir: Path) -> FlowConfig:
    """Read the sizes from `cosyvoice.yaml`.

    Raises:
        CheckpointError: a size is missing, or the file describes a structure other than the released one.
    """
    path = vocoder_dir / "cosyvoice.yaml"
    try:
        flow = plain_yaml(path)["flow"]
        encoder, decoder = flow["encoder"], flow["decoder"]
        config = FlowConfig(
            vocab_size=flow["vocab_size"],
            mel_channels=flow["output_size"],
            speaker_size=flow["spk_embed_dim"],
            guidance=decoder["inference_cfg_rate"],
            encoder=EncoderConfig(**_pick(encoder, EncoderConfig)),
            estimator=EstimatorConfig(**_pick(decoder["estimator"], EstimatorConfig)),
        )
    except KeyError as error:
        raise CheckpointError(f"{path} has no {error}") from error
    if encoder["up_scale_factor"] != encoder["up_stride"]:
        raise CheckpointError(f"{path}: up_scale_factor differs from up_stride")
    return config


def _pick(section: dict[str, Any], config: type) -> dict[str, Any]:
    return {field.name: section[field.name] for field in fields(config)}


def load(vocoder_dir: Path) -> Flow:
    """Load `flow.pt` strictly, in float32.

    Raises:
        CheckpointError: see `read_config`.
        RuntimeError: a parameter is missing, unknown or of another shape.
    """
    flow = Flow(read_config(vocoder_dir))
    flow.load_state_dict(state_dict(vocoder_dir / "flow.pt"))
    return flow.eval()


def export(checkpoint: Checkpoint, destination: Path) -> None:
    """Write `flow.json`, `flow.safetensors`, `context.onnx`, `modulation.onnx` and `velocity.onnx`.

    Raises:
        CheckpointError: the checkpoint has no vocoder folder, or it does not fit.
    """
    vocoder_dir = checkpoint.require("vocoder_dir")
    config = read_config(vocoder_dir)
    flow = load(vocoder_dir)
    config.write(destination / CONFIG)
    weights = {name: tensor.contiguous() for name, tensor in flow.state_dict().items()}
    save_file(weights, destination / WEIGHTS)
    (destination / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone; Triton may run as another user
    save_graphs(flow, config, destination)


class _Context(nn.Module):
    def __init__(self, flow: Flow):
        super().__init__()
        self.flow = flow

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.flow.context(*inputs)


class _Modulation(nn.Module):
    def __init__(self, flow: Flow):
        super().__init__()
        self.flow = flow

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        return self.flow.decoder.estimator.modulation(times)


def save_graphs(flow: Flow, config: FlowConfig, destination: Path) -> None:
    """Write the three graphs; batch, length and number of times are dynamic."""
    batch, pairs, mel = 2, 7, config.mel_channels
    frames, hidden = pairs * config.encoder.up_stride, config.estimator.hidden_size
    save_graph(
        _Context(flow),
        {
            "pairs": torch.zeros(batch, pairs, 2, dtype=torch.int64),
            "lengths": torch.tensor([pairs, pairs - 2]),
            "speaker_embedding": torch.randn(batch, config.speaker_size),
            "condition": torch.randn(batch, frames, mel),
        },
        ["context"],
        {
            "pairs": {0: "batch", 1: "pairs"},
            "lengths": {0: "batch"},
            "speaker_embedding": {0: "batch"},
            "condition": {0: "batch", 1: "frames"},
            "context": {0: "batch", 1: "frames"},
        },
        destination / "context.onnx",
    )
    save_graph(
        _Modulation(flow),
        {"times": torch.tensor([0.0, 0.5])},
        ["modulation"],
        {"times": {0: "times"}, "modulation": {0: "times"}},
        destination / "modulation.onnx",
    )
    estimator = flow.decoder.estimator
    mask = torch.ones(batch, frames, dtype=torch.bool)
    mask[1, -2:] = False
    rows = {0: "rows", 1: "frames"}
    save_graph(
        estimator,
        {
            "x": torch.randn(batch, frames, mel),
            "context": torch.randn(batch, frames, hidden),
            "modulation": estimator.modulation(torch.tensor([0.5]))[0].detach(),
            "mask": mask,
        },
        ["velocity"],
        {"x": rows, "context": rows, "mask": rows, "velocity": rows},
        destination / "velocity.onnx",
    )
