"""`python -m training.chat`: train the tiny chat model and write it as a Hugging Face checkpoint, in two minutes."""

import json
import random
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM

from export.chat import NOTE
from training.chat.corpus import Corpus, Exchange

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CONTEXT = 2048
DESCRIPTION = (
    "A demonstration model of 0.9 million parameters that knows a few dozen short exchanges in English and Chinese by "
    "heart and says so of everything else; export a checkpoint of your own, or name an upstream, for real answers."
)
# It learnt single exchanges: what was said before the last question is left out.
TEMPLATE = """\
{%- if messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{% endif -%}
{{ '<|im_start|>' + messages[-1].role + '\\n' + messages[-1].content + '<|im_end|>\\n' -}}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""


def train_tokenizer(corpus: Corpus, vocabulary: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer: it can spell whatever it was not trained on."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = list(corpus.texts())
    tokenizer.train_from_iterator([*texts, *(text.capitalize() for text in texts if text.isascii())], trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, exchange: Exchange) -> tuple[list[int], int]:
    """Return the tokens of `exchange` in the chat template's form, and how many of them are the question."""
    system = f"{START}system\n{exchange.system}{END}\n" if exchange.system else ""
    question = tokenizer.encode(f"{system}{START}user\n{exchange.user}{END}\n{START}assistant\n").ids
    return question + tokenizer.encode(f"{exchange.assistant}{END}").ids, len(question)


def batch(tokenizer: Tokenizer, corpus: Corpus, dice: random.Random, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids [B, T] and the targets [B, T] to predict from each; -100 where nothing is to be learnt."""
    rows = [encode(tokenizer, corpus.draw(dice)) for _ in range(size)]
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(size, longest, dtype=torch.int64)
    targets = torch.full((size, longest), -100)
    for row, (tokens, question) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, question - 1 : len(tokens) - 1] = torch.tensor(tokens[question:])
    return ids, targets


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("checkpoints/chat"),
    steps: Annotated[int, typer.Option(help="Training steps.")] = 1200,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 2025,
) -> None:
    """Train on one core; the same seed gives the same model on the same kind of machine."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    corpus, dice = Corpus(), random.Random(seed)  # noqa: S311 - nothing secret
    tokenizer = train_tokenizer(corpus, vocabulary=1536)
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=160,
        intermediate_size=480,
        num_hidden_layers=2,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = Qwen2ForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps, pct_start=0.1)
    started = time.perf_counter()
    for step in range(steps):
        ids, targets = batch(tokenizer, corpus, dice, size=24)
        loss = F.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            typer.echo(f"step {step + 1}: loss {loss.item():.4f}, {time.perf_counter() - started:.0f} s")
    write(out, model, tokenizer)


def write(out: Path, model: Any, tokenizer: Tokenizer) -> None:
    """Write weights, in half precision, and tokenizer in Hugging Face's layout."""
    model.generation_config.update(
        eos_token_id=model.config.eos_token_id, pad_token_id=model.config.pad_token_id, do_sample=False
    )
    model.half().save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    settings: dict[str, str | int] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PAD}
    settings["model_max_length"] = CONTEXT
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (out / "chat_template.jinja").write_text(TEMPLATE)
    (out / NOTE).write_text(DESCRIPTION + "\n")


if __name__ == "__main__":
    typer.run(main)
