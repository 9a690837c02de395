"""The text embedder: a Hugging Face checkpoint of a sentence model → one ONNX graph, its tokenizer and a description.

Reads the layout that sentence-transformers and Qwen3-Embedding publish: `config.json`, `*.safetensors`,
`tokenizer.json`, and where they are there `1_Pooling/config.json`, `sentence_bert_config.json` and
`config_sentence_transformers.json`.
"""

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.checkpoint import CheckpointError
from python_backend.embedding.description import Description

OPSET = 18
GRAPH = "model.onnx"
LONGEST = 8192
# Key in 1_Pooling/config.json → what the graph calls it.
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last", "pooling_mode_cls_token": "cls"}
# As https://huggingface.co/Qwen/Qwen3-Embedding-4B spells what goes before a query.
QWEN3_INSTRUCTION = "Instruct: {instruction}\nQuery:"


class Pooled(nn.Module):
    """A transformer and all three ways to make one vector of its last layer; nothing is normalised here."""

    def __init__(self, transformer: nn.Module):
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn texts int64 [B, T], padded on the right, and their mask int64 [B, T] into three float32 [B, H].

        Returns:
            The mean over each text's tokens, its last token, its first token.
        """
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        lengths = attention_mask.sum(dim=1, keepdim=True)
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(dim=1) / lengths.to(states.dtype)
        last = states.gather(1, (lengths - 1).unsqueeze(-1).expand(-1, 1, states.shape[-1]))[:, 0]
        return mean, last, states[:, 0]


def export(checkpoint: Path, destination: Path, name: str | None = None) -> None:
    """Write the graph, `tokenizer.json` and `description.json` of `checkpoint` into the folder `destination`.

    Inputs `input_ids` and `attention_mask` int64 [B, T]; outputs `pooled_mean`, `pooled_last` and `pooled_cls` float32
    [B, H]. Weights lie beside the graph in `model.onnx.data`: most checkpoints are over protobuf's 2 GB.

    Args:
        checkpoint: folder of the checkpoint.
        destination: folder to write into.
        name: what to call the model; by default what the checkpoint's folder is called.

    Raises:
        CheckpointError: a file is missing or cannot be read.
    """
    if not (checkpoint / "tokenizer.json").is_file():
        raise CheckpointError(f"{checkpoint}: no tokenizer.json")
    transformer = _transformer(checkpoint)
    description = describe(checkpoint, transformer.config, name or checkpoint.resolve().name)
    _save_graph(Pooled(transformer).eval(), destination / GRAPH)
    shutil.copyfile(checkpoint / "tokenizer.json", destination / "tokenizer.json")
    description.save(destination)


def describe(checkpoint: Path, config: Any, name: str) -> Description:
    """Read from the checkpoint's files how its vectors are meant to be made.

    Args:
        checkpoint: its folder.
        config: transformers' configuration of it.
        name: what to call the model.
    """
    is_qwen3 = config.model_type == "qwen3"
    pooling_modes = _json(checkpoint / "1_Pooling" / "config.json")
    chosen = [pooling for key, pooling in POOLINGS.items() if pooling_modes.get(key)]
    prompts = _json(checkpoint / "config_sentence_transformers.json").get("prompts") or {}
    limit = _json(checkpoint / "sentence_bert_config.json").get("max_seq_length") or config.max_position_embeddings
    pad = config.pad_token_id
    return Description(
        model=name,
        dimensions=config.hidden_size,
        max_tokens=min(int(limit), int(config.max_position_embeddings), LONGEST),
        pooling=chosen[0] if chosen else "last" if is_qwen3 else "mean",
        pad_token=0 if pad is None else int(pad),
        instruction=QWEN3_INSTRUCTION if is_qwen3 else "",
        query_prompt=str(prompts.get("query", "")),
    )


def _transformer(checkpoint: Path) -> Any:
    # Takes seconds to import, and only this needs it.
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(
            checkpoint,
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} cannot be read: {error}") from error
    model.config.use_cache = False
    return model


def _save_graph(pooled: Pooled, path: Path) -> None:
    # Two texts, one of them padded: sizes of one and masks without a gap would be taken for constants.
    ids = torch.ones(2, 7, dtype=torch.int64)
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it regrets that torchvision is not there
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about names of its own
        torch.onnx.export(
            pooled,
            (ids, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["pooled_mean", "pooled_last", "pooled_cls"],
            dynamic_shapes=({0: batch, 1: tokens}, {0: batch, 1: tokens}),
            opset_version=OPSET,
            dynamo=True,
            external_data=True,
            verbose=False,
        )


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
