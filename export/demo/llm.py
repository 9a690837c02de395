"""A small random Step1 under the released file names."""

import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file

from export.demo.text_tokenizer import write_text_tokenizer
from python_backend.llm.config import Step1Config
from python_backend.llm.step1 import parameter_shapes

EOT = 3
SIZES = {
    # Six heads, so that both halves of the ALiBi slope rule are in use, as with the released 48.
    "demo": {
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_attention_heads": 6,
        "num_attention_groups": 2,
        "num_hidden_layers": 4,
    },
    "released": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_attention_heads": 48,
        "num_attention_groups": 4,
        "num_hidden_layers": 32,
    },
}
DTYPES = {"demo": "float32", "released": "bfloat16"}


def write_llm(directory: Path, sizes: Literal["demo", "released"], seed: int) -> None:
    """Write `config.json`, `model.safetensors`, `tokenizer.model` and `tokenizer_config.json` to `directory`.

    The vocabulary of texts stays small at the `released` sizes too, 6 GB in all. The same seed gives the same files.
    The model speaks varied tokens and all but never stops by itself: the token budget ends its speech.
    """
    directory.mkdir(parents=True, exist_ok=True)
    vocab_size = write_text_tokenizer(directory / "tokenizer.model")
    # The server tells its user to expect noise.
    write_config(directory, {**SIZES[sizes], "vocab_size": vocab_size}, DTYPES[sizes], "random")
    dtype: torch.dtype = getattr(torch, DTYPES[sizes])
    weights = random_weights(Step1Config.from_file(directory / "config.json"), seed, dtype)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def write_config(directory: Path, sizes: dict[str, int], dtype: str, kind: str) -> None:
    """Write `config.json` and `tokenizer_config.json`.

    Args:
        directory: the folder.
        sizes: as `config.json` names them, the vocabulary's with them.
        dtype: of the weights.
        kind: what the weights are, for the server to tell its user.
    """
    config = {
        "architectures": ["Step1ForCausalLM"],
        "model_type": "step1",
        "bos_token_id": 1,
        "pad_token_id": 0,
        "eos_token_id": EOT,
        **sizes,
        "max_seq_len": 32768,
        "rms_norm_eps": 1e-5,
        "torch_dtype": dtype,
        "step_audio_triton_demo": kind,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer_config = {
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": False,
        "model_max_length": 65536,
        "pad_token": "<unk>",
        "padding_side": "left",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2) + "\n", encoding="utf-8")


def random_weights(config: Step1Config, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Return random weights under the released names, scaled so that activations keep their size."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:  # the gain of a norm
            value = 1 + 0.1 * noise
        elif name.startswith("model.embed_tokens"):
            value = noise
        else:
            value = noise / shape[1] ** 0.5
        weights[name] = value.to(dtype)
    head = weights["lm_head.weight"]
    head *= 2  # logits spread enough for temperature, top_k and top_p to matter
    head[config.eos_token_id] = 0
    return weights
