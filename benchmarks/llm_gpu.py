"""Decoding speed of the language model at its released size on a GPU, against the card's own copy bandwidth.

    python -m benchmarks.llm_gpu

Random bfloat16 weights, made on the card. A step has to read every weight once (the embedding but for a few rows, and
of the output head what the grammar allows), so the time of a copy is the yardstick. `--device cpu --size small` runs
the same on a CPU in seconds, to try the script.
"""

import resource
import time
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from python_backend.llm import grammar, packing
from python_backend.llm.config import Step1Config
from python_backend.llm.prompt import Prompt
from python_backend.llm.request import Generation
from python_backend.llm.runner import Runner
from python_backend.llm.sampling import Sampling
from python_backend.llm.sequence import Sequence
from python_backend.llm.step1 import Step1

STOP = 3
BATCHES = (1, 8, 32, 64)
PROMPT, CONTEXT, CHUNK = 600, 1024, 256
WARM_UP = 5
# Audio token 0 of the released tokenizer; of the small size, what leaves room for all audio tokens.
SIZES = {
    "released": (Step1Config(3072, 8192, 48, 4, 32, 32768, 74752, 1e-5, STOP), 65_536, 200, 2**30),
    "small": (Step1Config(128, 256, 4, 2, 2, 32768, 5_320, 1e-5, STOP), 200, 10, 2**24),
}


def random_model(config: Step1Config, device: torch.device) -> Step1:
    """Return a model with random weights of a trained-like scale, bfloat16, made on `device`."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Step1(config)
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            made = torch.empty(value.shape, dtype=torch.bfloat16, device=device)
            made = made.fill_(1) if value.dim() == 1 else made.normal_(0, value.shape[-1] ** -0.5)
            setattr(module, name, nn.Parameter(made, requires_grad=False))
    model.slope = Step1.slopes(config).to(device)
    return packing.pack(model.eval(), fuse=device.type == "cuda")


def seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the mean time of one call."""
    for _ in range(WARM_UP):
        call()
    wait(device)
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    wait(device)
    return (time.perf_counter() - started) / repeats


def wait(device: torch.device) -> None:
    """Wait for what `device` still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_bandwidth(size: int, device: torch.device) -> float:
    """Return bytes per second of a copy of `size` bytes from the device to itself, read and written."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), 20, device)


def weight_bytes(config: Step1Config) -> int:
    """Return the bytes of weights that one step reads, bfloat16."""
    kv = config.num_attention_groups * config.head_dim
    attention = config.hidden_size * (2 * config.hidden_size + 2 * kv)
    mlp = 3 * config.hidden_size * config.intermediate_size
    norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
    return 2 * (config.num_hidden_layers * (attention + mlp) + grammar.COLUMNS * config.hidden_size + norms)


def kv_bytes(config: Step1Config, positions: int) -> int:
    """Return the bytes of keys and values that one row's step reads, bfloat16."""
    return 4 * config.num_hidden_layers * config.num_attention_groups * config.head_dim * positions


def prefilled(runner: Runner, config: Step1Config, slot: int, offset: int, answer: int) -> Sequence:
    """Return a request in `slot` that has its prompt computed and its first token chosen."""
    generator = torch.Generator().manual_seed(slot)
    ids = tuple(torch.randint(4, config.vocab_size, (PROMPT,), generator=generator).tolist())
    sequence = Sequence(Generation(Prompt(ids, 0), Sampling(seed=slot), answer, STOP, offset), lambda _: None)
    sequence.slot = slot
    for start in range(0, PROMPT, CHUNK):
        hidden = runner.prefill(slot, ids[start : start + CHUNK], start)
    sequence.accept(runner.first(hidden, sequence))
    return sequence


def main(
    device: Annotated[Literal["cuda", "cpu"], typer.Option(help="Where to run.")] = "cuda",
    size: Annotated[Literal["released", "small"], typer.Option(help="Dimensions of the model.")] = "released",
) -> None:
    """Measure and print one table."""
    console = Console(width=120)
    if device == "cuda" and not torch.cuda.is_available():
        console.print("no GPU: torch finds no CUDA device (--device cpu --size small tries the script without one)")
        raise typer.Exit(1)
    on = torch.device(device)
    config, offset, steps, copied = SIZES[size]
    torch.set_num_threads(1)
    bandwidth = copy_bandwidth(copied, on)
    model = random_model(config, on)
    started = time.perf_counter()
    runner = Runner(model, max(BATCHES), CONTEXT, offset, STOP, graphs=on.type == "cuda")
    card = torch.cuda.get_device_name(on) if on.type == "cuda" else "CPU"
    console.print(
        f"{card}, torch {torch.__version__}: Step1 {size}, {weight_bytes(config) / 1e9:.2f} GB of weights read per "
        f"step; prompts of {PROMPT} ids; graphs ready after {time.perf_counter() - started:.1f} s; "
        f"a copy moves {bandwidth / 1e9:.0f} GB/s"
    )
    table = Table("batch", "ms per token", "tokens/s", "weights / copy bandwidth", "with keys and values", "peak MiB")
    for batch in BATCHES:
        rows = [prefilled(runner, config, slot, offset, steps + WARM_UP + 2) for slot in range(batch)]

        def step(rows: list[Sequence] = rows) -> None:
            for sequence, token in zip(rows, runner.decode(rows), strict=True):
                sequence.generated.append(token if token != STOP else offset)

        taken = seconds(step, steps, on)
        read = weight_bytes(config)
        positions = PROMPT + WARM_UP + steps // 2
        shares = [amount / taken / bandwidth for amount in (read, read + batch * kv_bytes(config, positions))]
        peak = (
            torch.cuda.max_memory_allocated(on) >> 20
            if on.type == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        )
        table.add_row(
            f"{batch}", f"{taken * 1e3:.3f}", f"{batch / taken:.0f}", f"{shares[0]:.0%}", f"{shares[1]:.0%}", f"{peak}"
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
