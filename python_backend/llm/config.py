"""Sizes of a Step1 language model, read from its `config.json`."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Step1Config:
    """The fields of `config.json` that shape the network, under their released names.

    Every one is required: the released configuration class has defaults that fit no released model.
    """

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_attention_groups: int
    num_hidden_layers: int
    max_seq_len: int
    vocab_size: int
    rms_norm_eps: float
    eos_token_id: int

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def heads_per_group(self) -> int:
        """Query heads that share one key/value head; head h belongs to group h // heads_per_group."""
        return self.num_attention_heads // self.num_attention_groups

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read `path`.

        Raises:
            ValueError: the file is not a Step1 configuration, lacks a field, or the sizes contradict each other.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("model_type") != "step1":
            raise ValueError(f"{path}: model_type is {content.get('model_type')!r}, not 'step1'")
        names = [field.name for field in dataclasses.fields(cls)]
        missing = [name for name in names if name not in content]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}")
        config = cls(**{name: content[name] for name in names})
        if config.hidden_size % config.num_attention_heads or config.num_attention_heads % config.num_attention_groups:
            raise ValueError(f"{path}: the heads do not divide hidden_size, or the groups do not divide the heads")
        return config
