"""The sizes of a flow checkpoint, as its exporter read them from `cosyvoice.yaml`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the up-sampling conformer encoder; names as in `cosyvoice.yaml`."""

    input_size: int
    output_size: int
    num_blocks: int
    num_up_blocks: int
    attention_heads: int
    linear_units: int
    pre_lookahead_len: int
    up_stride: int
    key_bias: bool


@dataclass(frozen=True)
class EstimatorConfig:
    """Sizes of the DiT; names as in `cosyvoice.yaml`."""

    in_channels: int
    out_channels: int
    hidden_size: int
    depth: int
    num_heads: int
    head_dim: int
    mlp_ratio: float


@dataclass(frozen=True)
class FlowConfig:
    """Sizes of the whole flow.

    Attributes:
        vocab_size: rows of the shared table: vq02 codes, one padding row, vq06 codes.
        mel_channels: mel bins, also the width of the projected speaker embedding.
        speaker_size: width of the raw speaker embedding.
        guidance: the rate of classifier-free guidance that the checkpoint's authors use.
    """

    vocab_size: int
    mel_channels: int
    speaker_size: int
    guidance: float
    encoder: EncoderConfig
    estimator: EstimatorConfig

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from what `asdict` gives."""
        encoder = EncoderConfig(**values["encoder"])
        estimator = EstimatorConfig(**values["estimator"])
        return cls(**{**values, "encoder": encoder, "estimator": estimator})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the JSON file that `write` made."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
