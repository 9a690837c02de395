"""Export of HiFT to one ONNX graph: mel and noise to waveform."""

from pathlib import Path
from typing import Any

import torch

from export.checkpoint import Checkpoint, CheckpointError, plain_yaml, state_dict
from export.graph import save_graph
from export.hift import Hift, HiftConfig

INPUTS = ("mel", "mel_length", "noise", "cached_source", "cached_source_length")
OUTPUTS = ("waveform", "waveform_length", "source", "f0")
GAIN, DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"
PASSED_THROUGH = (
    "in_channels",
    "base_channels",
    "nb_harmonics",
    "sampling_rate",
    "nsf_alpha",
    "nsf_sigma",
    "nsf_voiced_threshold",
    "upsample_rates",
    "upsample_kernel_sizes",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
    "source_resblock_kernel_sizes",
    "source_resblock_dilation_sizes",
    "lrelu_slope",
    "audio_limit",
)


def read_config(vocoder_dir: Path) -> HiftConfig:
    """Read the sizes from `cosyvoice.yaml`.

    Raises:
        CheckpointError: a size is missing.
    """
    path = vocoder_dir / "cosyvoice.yaml"
    try:
        hift = plain_yaml(path)["hift"]
        return HiftConfig(
            **{name: _frozen(hift[name]) for name in PASSED_THROUGH},
            n_fft=hift["istft_params"]["n_fft"],
            hop_len=hift["istft_params"]["hop_len"],
            f0_channels=hift["f0_predictor"]["cond_channels"],
        )
    except KeyError as error:
        raise CheckpointError(f"{path} has no {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def fold_weight_norm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Replace each gain g and direction v by the weight g * v / |v|, the norm over all dimensions but the first."""
    folded = {}
    for name, tensor in state.items():
        if name.endswith(GAIN):
            module = name.removesuffix(GAIN)
            direction = state[module + DIRECTION].to(torch.float32)
            norm = direction.flatten(1).norm(dim=1)[:, None, None]
            folded[module + ".weight"] = direction * (tensor.to(torch.float32) / norm)
        elif not name.endswith(DIRECTION):
            folded[name] = tensor
    return folded


def load(vocoder_dir: Path) -> Hift:
    """Load `hift.pt` strictly, in float32, ready to run.

    Raises:
        CheckpointError: see `read_config`.
        RuntimeError: a parameter is missing, unknown or of another shape.
    """
    hift = Hift(read_config(vocoder_dir))
    hift.load_state_dict(fold_weight_norm(state_dict(vocoder_dir / "hift.pt")))
    hift.fold()
    return hift.eval()


def export(checkpoint: Checkpoint, destination: Path) -> None:
    """Write `model.onnx`.

    Raises:
        CheckpointError: the checkpoint has no vocoder folder, or it does not fit.
    """
    hift = load(checkpoint.require("vocoder_dir"))
    batch, frames, channels = 2, 6, hift.config.in_channels
    inputs = {
        "mel": torch.randn(batch, channels, frames),
        "mel_length": torch.tensor([[frames], [frames - 2]], dtype=torch.int32),
        "noise": torch.randn(batch, frames * hift.m_source.hop),
        "cached_source": torch.zeros(batch, 3),
        "cached_source_length": torch.tensor([[0], [2]], dtype=torch.int32),
    }
    second = {"mel": "frames", "noise": "samples", "cached_source": "cached", "waveform": "samples",
              "source": "samples", "f0": "frames"}  # fmt: skip
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in (*INPUTS, *OUTPUTS)}
    for name, axis in second.items():
        axes[name][2 if name == "mel" else 1] = axis
    save_graph(hift, inputs, list(OUTPUTS), axes, destination / "model.onnx")
