"""The language-model engine against a plain decode of the same weights, one run, side by side.

    python -m benchmarks.llm [--threads 1] [--dtype bfloat16]

A random Step1 of about 150 M parameters. Both sides have the same dtype and threads, and each speed is printed.
"""

import queue
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.plain_step1 import PlainDecoder
from export.demo.llm import EOT, random_weights
from python_backend.llm import grammar, packing, placement
from python_backend.llm.config import Step1Config
from python_backend.llm.engine import Engine
from python_backend.llm.kv_cache import SlotCache
from python_backend.llm.prompt import Prompt
from python_backend.llm.request import Event, Failed, Finished, Generation, Tokens
from python_backend.llm.runner import Runner
from python_backend.llm.sampling import Sampling
from python_backend.llm.step1 import Step1

AUDIO_OFFSET = 1000
CONFIG = Step1Config(
    hidden_size=768,
    intermediate_size=2048,
    num_attention_heads=12,
    num_attention_groups=4,
    num_hidden_layers=22,
    max_seq_len=32768,
    vocab_size=AUDIO_OFFSET + 9216,
    rms_norm_eps=1e-5,
    eos_token_id=EOT,
)
PROMPT, PREFIX = 600, 560
ANSWER = 200  # 4.8 s of speech
STREAMS, VOICES = 16, 4
TEMPERATURE = 0.7
CONTEXT = 1024


def build(dtype: torch.dtype) -> Step1:
    """Return the random model."""
    with torch.device("meta"):
        model = Step1(CONFIG)
    model.load_state_dict(random_weights(CONFIG, 0, dtype), assign=True)
    model.slope = Step1.slopes(CONFIG)
    return model.eval().requires_grad_(False)


def request(seed: int, voice: int, answer: int = ANSWER) -> Generation:
    """Return a request of `PROMPT` ids whose first `PREFIX` belong to `voice`."""
    generator = torch.Generator().manual_seed(voice)
    prefix = torch.randint(100, CONFIG.vocab_size, (PREFIX,), generator=generator).tolist()
    generator.manual_seed(10_000 + seed)
    text = torch.randint(100, AUDIO_OFFSET, (PROMPT - PREFIX,), generator=generator).tolist()
    return Generation(Prompt((*prefix, *text), PREFIX), Sampling(TEMPERATURE, seed=seed), answer, EOT, AUDIO_OFFSET)


class Client:
    """Drives an engine and takes times."""

    def __init__(self, model: Step1, slots: int = STREAMS, deterministic: bool = False):
        self.runner = Runner(model, slots, CONTEXT, AUDIO_OFFSET, EOT, deterministic)
        self.engine = Engine(self.runner, max_queue=256, prefix_bytes=2**28)

    def run(self, generations: Sequence[Generation]) -> tuple[list[list[int]], float, float]:
        """Return the answers, the seconds all took, and the seconds to the first token of the first to have one.

        Raises:
            RuntimeError: a request failed.
        """
        events: queue.SimpleQueue[tuple[int, Event, float]] = queue.SimpleQueue()
        answers: list[list[int]] = [[] for _ in generations]
        started = time.perf_counter()
        for index, generation in enumerate(generations):

            def emit(event: Event, index: int = index) -> None:
                events.put((index, event, time.perf_counter()))

            self.engine.submit(generation, emit)
        first = float("inf")
        open_requests = len(generations)
        ended = started
        while open_requests:
            index, event, at = events.get()
            if isinstance(event, Failed):
                raise RuntimeError("a request failed") from event.error
            if isinstance(event, Tokens):
                answers[index] += event.tokens
            else:
                assert isinstance(event, Finished)  # noqa: S101
                first = min(first, event.stage_ms[0] / 1e3)
                open_requests -= 1
                ended = at
        return answers, ended - started, first

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()


Cells = tuple[str, str, str, str, str]


def rate(seconds: float, first: float, answer: int) -> float:
    """Return tokens per second after the first one."""
    return (answer - 1) / (seconds - first)


def agreement(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> float:
    """Return the share of answers that are equal token by token."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def plain_rate(model: Step1, tokens: int = 20) -> float:
    """Return the plain side's tokens per second after a prompt of `PROMPT` ids, the best of three runs."""
    plain = PlainDecoder(model)
    rates = []
    with torch.inference_mode():
        plain.logits(list(request(0, 0).prompt.ids))
        for _ in range(3):
            started = time.perf_counter()
            for token in range(tokens):
                plain.logits([AUDIO_OFFSET + token])
            rates.append(tokens / (time.perf_counter() - started))
    return max(rates)


@dataclass(frozen=True)
class Speed:
    """What one mode of the engine does with the crowd's requests.

    Args:
        single: tokens/s of one stream after its first token, the best of those alone.
        alone: tokens/s over requests one after another, prompts included.
        together: tokens/s over all requests at once, prompts included.
        agreement: share of the answers that are the same alone and together.
    """

    single: float
    alone: float
    together: float
    agreement: float
    cache_used: int
    cache_budget: int


def speed(model: Step1, deterministic: bool, alone: int) -> Speed:
    """Run the crowd at once, and the first `alone` of it one by one.

    Raises:
        RuntimeError: an answer breaks the pattern of speech.
    """
    crowd = [request(seed, seed % VOICES) for seed in range(STREAMS)]
    serial = Client(model, deterministic=deterministic)
    serial.run([request(0, 99, 5)])
    runs = [serial.run([generation]) for generation in crowd[:alone]]
    serial.close()
    batched = Client(model, deterministic=deterministic)
    batched.run([request(0, 99, 5)])
    answers, seconds, _ = batched.run(crowd)
    batched.close()
    if any(grammar.misplaced(answer) is not None for answer in answers):
        raise RuntimeError("an answer breaks the pattern of speech")
    return Speed(
        single=max(rate(taken, first, ANSWER) for _, taken, first in runs),
        alone=alone * ANSWER / sum(taken for _, taken, _ in runs),
        together=STREAMS * ANSWER / seconds,
        agreement=agreement([found[0] for found, _, _ in runs], answers[:alone]),
        cache_used=used(batched.runner.cache),
        cache_budget=batched.runner.cache.nbytes,
    )


def used(cache: SlotCache) -> int:
    """Return the bytes of the positions that were written to."""
    positions = cache.keys[0, :, 0, : cache.capacity].any(-1).sum().item()
    return int(positions) * cache.nbytes // (cache.slots * (cache.capacity + 1))


def streams(model: Step1, plain: float) -> Iterator[Cells]:
    """Compare one stream with the plain side, many with the same one after another, the modes with each other."""
    fast, steady = speed(model, False, STREAMS), speed(model, True, 4)
    crowd = f"{STREAMS} streams"
    yield "tokens/s, one stream", f"{fast.single:.1f}", f"plain {plain:.1f}", f"{fast.single / plain:.1f}×", "3×"
    ratio = fast.together / fast.alone
    yield f"tokens/s, {crowd}", f"{fast.together:.1f}", f"one by one {fast.alone:.1f}", f"{ratio:.1f}×", "6×"
    for label, one, other in (
        ("one stream", steady.single, fast.single),
        (crowd, steady.together, fast.together),
    ):
        yield f"tokens/s, {label}, deterministic", f"{one:.1f}", f"fast {other:.1f}", f"{one / other:.2f}×", ""
    yield f"same answers in {crowd} as alone, fast", f"{fast.agreement:.0%}", "", "", ""
    yield f"same answers in {crowd} as alone, deterministic", f"{steady.agreement:.0%}", "", "", "100%"
    yield (
        "key/value cache, peak in use",
        f"{fast.cache_used >> 20} MiB",
        f"budget {fast.cache_budget >> 20} MiB",
        "",
        "under",
    )


def first_token(model: Step1) -> Iterator[Cells]:
    """Compare the time to the first token with and without the voice's prefix at hand."""
    client = Client(model, slots=1)
    client.run([request(0, 99, 5)])
    new = min(client.run([request(seed, seed, 5)])[2] for seed in range(1, 5))
    kept = min(client.run([request(100 + seed, seed, 5)])[2] for seed in range(1, 5))
    client.close()
    yield (
        "time to first token, voice kept",
        f"{kept * 1e3:.1f} ms",
        f"new {new * 1e3:.1f} ms",
        f"{new / kept:.1f}×",
        "5×",
    )


def main(
    threads: Annotated[int, typer.Option(help="Compute threads of both sides.")] = 1,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto (bfloat16 where the CPU has AMX).")] = "auto",
) -> None:
    """Measure and print one table."""
    torch.set_num_threads(threads)
    kind = placement.dtype(dtype, torch.device("cpu"), torch.bfloat16)
    model = build(kind)
    parameters = sum(value.numel() for value in model.parameters())
    plain = plain_rate(model)
    packing.pack(model)
    console = Console()
    console.print(
        f"Step1, {parameters / 1e6:.0f} M random parameters, {kind}, {threads} threads; prompts of {PROMPT} ids, "
        f"{PREFIX} of them the voice's, {VOICES} voices; answers of {ANSWER} tokens; torch {torch.__version__}"
    )
    table = Table("measure", "ours", "against", "ratio", "aim")
    for cells in (*streams(model, plain), *first_token(model)):
        table.add_row(*cells)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    table.add_row("peak memory of the process", f"{peak} MiB", "", "", "")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
