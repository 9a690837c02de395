"""Streaming on the demo checkpoint, measured against its bars: `python -m benchmarks.streaming` prints one table.

Starts a server for the time of the measurement, with which it shares the cores. Weights are random, so the length of
what is said comes from `max_tokens`.
"""

import asyncio
import os
import random
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import tritonclient.grpc as triton
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import streaming_cost
from benchmarks.direct import Machine, Token2Wav, first_audio
from benchmarks.memory import proportional_bytes
from benchmarks.perf_inputs import Tensors, infer
from benchmarks.running import Running, started
from client.load.report import STALLS_MS, Outcome, summarise
from client.load.run import closed_loop
from client.load.targets import Gateway, Target, Triton
from client.load.workload import Utterance, one_of_each_voice, utterances
from gateway.voices import VoiceLibrary
from python_backend.llm.request import SpeechRequest
from python_backend.llm.sampling import Sampling
from server.threads import usable_cores

ROOT = Path(__file__).resolve().parent.parent
GROUP_SECONDS, GROUP_TOKENS = 0.12, 5
VOICE = "happy_en"
TEXT = "This sentence is spoken again and again, to see how soon it is heard and what it costs to hear it early."
VOICE_OUTPUTS = ("prompt_tokens", "prompt_mel", "speaker_embedding", "stage_ms", "voice_key", "cache_hit")
CONTINUOUS_MS = 200
AFFORDABLE = 0.7  # streams times real-time factor, up to which all must be continuous
SETTLED_SECONDS = 3.0
FIRST_CHUNK_GROUPS = 7  # as short as an utterance can be whose first chunk is not its last
WIDTH = 150


@dataclass(frozen=True)
class Row:
    """One line of the table; `holds` is `None` where its bar does not apply."""

    measure: str
    found: str
    bar: str = ""
    holds: bool | None = None


def main(
    seconds: Annotated[float, typer.Option(help="Length of what is said.")] = 6.0,
    runs: Annotated[int, typer.Option(min=2, help="Requests behind each median.")] = 20,
    streams: Annotated[int, typer.Option(min=1, help="Streams at once.")] = 8,
    drops: Annotated[int, typer.Option(min=0, help="Streams opened and dropped at random moments.")] = 500,
    model_repository: Annotated[Path, typer.Option(help="Exported models.")] = ROOT / "model_repository",
) -> None:
    """Measure streaming against its bars; the exit code is 1 when one is missed."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    groups = round(seconds / GROUP_SECONDS)
    rows = _cost(model_repository, groups)
    with started(console, "--model-repository", str(model_repository)) as server:
        rows += asyncio.run(_served(server, model_repository, GROUP_TOKENS * groups, runs, streams, drops))
    table = Table(
        "measure", "found", "bar", "", title=f"streaming, {seconds:g} s, {usable_cores(dict(os.environ))} cores"
    )
    for row in rows:
        verdict = "" if row.holds is None else "holds" if row.holds else "[red]missed[/red]"
        table.add_row(row.measure, row.found, row.bar, verdict)
    console.print(table)
    if any(row.holds is False for row in rows):
        raise typer.Exit(1)


def _cost(repository: Path, groups: int) -> list[Row]:
    torch.set_num_threads(1)
    cost = streaming_cost.measure(Token2Wav.load(repository, threads=1), groups, runs=3)
    whole, streamed = cost.whole_seconds, cost.streamed_seconds
    state = f"{cost.flow_bytes / 1e6:.1f} MB in flow, {cost.vocoder_bytes / 1e3:.0f} kB in its vocoder"
    return [
        Row(
            "flow + vocoder, CPU time in chunks over whole (warm voice, 1 thread)",
            f"{cost.ratio:.2f} ({streamed:.3f} s over {whole:.3f} s)",
            "≤ 1.3",
            cost.ratio <= 1.3,
        ),
        Row("state of a stream, the same from its first chunk to its last", state),
        Row("a voice set up, once for all its streams", f"{cost.voice_bytes / 1e6:.1f} MB"),
    ]


async def _served(server: Running, repository: Path, max_tokens: int, runs: int, streams: int, drops: int) -> list[Row]:
    async with Triton(server.grpc) as over_grpc, Gateway(server.gateway) as over_http:
        await _all(over_grpc, one_of_each_voice(max_tokens), 1)
        rows, factor = await _alone(over_grpc, max_tokens, runs)
        for count in sorted({max(1, int(AFFORDABLE / factor)), streams}):
            rows.append(await _together(over_grpc, max_tokens, count, factor))
        rows.append(await _overhead(over_http, server, repository, 2 * runs))
        if drops and server.pid is not None:
            rows.append(await _dropped(over_grpc, server.pid, max_tokens, drops, streams))
    return rows


async def _alone(target: Triton, max_tokens: int, runs: int) -> tuple[list[Row], float]:
    """Compare one stream with whole answers, in turn; return also the stream's real-time factor."""
    whole: list[float] = []
    heard: list[Outcome] = []
    for seed in range(runs):
        utterance = Utterance(VOICE, TEXT, seed, max_tokens)
        heard += await _all(target, [utterance], 1)
        begun = perf_counter()
        await target.speech.synthesize(target.job(utterance))
        whole.append(perf_counter() - begun)
    report, total = summarise(heard), statistics.median(whole)
    first, factor = report.first_audio[0], report.real_time_factor
    found = f"{first / total:.0%} ({first * 1000:.0f} ms of {total * 1000:.0f} ms)"
    return [
        Row("first audio of one stream, share of the whole answer's time (p50)", found, "≤ 30 %", first / total <= 0.3),
        Row("real-time factor of one stream (p50)", f"{factor:.3f}"),
    ], factor


async def _together(target: Triton, max_tokens: int, streams: int, factor: float) -> Row:
    report = summarise(await _all(target, utterances(3 * streams, max_tokens), streams))
    share = report.continuity[STALLS_MS.index(CONTINUOUS_MS)]
    applies = streams * factor <= AFFORDABLE
    failed = sum(report.errors.values())
    return Row(
        f"{streams} streams at once: continuous at {CONTINUOUS_MS} ms",
        f"{share:.0%}, first audio p50 {report.first_audio[0] * 1000:.0f} ms, {failed} failed",
        f"100 % where streams × RTF ≤ {AFFORDABLE}: here {streams * factor:.2f}",
        share == 1.0 and not failed if applies else None,
    )


async def _overhead(target: Target, server: Running, repository: Path, runs: int) -> Row:
    """Compare first audio over HTTP with that of the same classes in this process, in turn.

    The utterance is short, because a language model that goes on while the first chunk is rendered would compete with
    it, and more so in one process than in several.
    """
    max_tokens = GROUP_TOKENS * FIRST_CHUNK_GROUPS
    voice = VoiceLibrary().find(VOICE)
    clip: Tensors = {"audio": voice.clip.waveform, "sample_rate": _int32(voice.clip.sample_rate)}
    answer = infer(triton.InferenceServerClient(server.grpc), "voice_encoder", clip, VOICE_OUTPUTS)
    encoded = {name: value.copy() for name, value in answer.items()}  # what came over gRPC cannot be written to
    threads = usable_cores(dict(os.environ))
    torch.set_num_threads(threads)
    machine = Machine(repository, threads)
    direct: list[float] = []
    through: list[float] = []
    for seed in range(runs + 2):  # the first two warm up
        utterance = Utterance(VOICE, TEXT, seed, max_tokens)
        request = SpeechRequest(
            "clone",
            encoded["prompt_tokens"].tolist(),
            TEXT,
            voice.prompt_text,
            sampling=Sampling(seed=seed),
            max_tokens=max_tokens,
        )
        direct.append(await asyncio.to_thread(first_audio, machine.session(encoded, request)))
        (outcome,) = await _all(target, [utterance], 1)
        through.append((outcome.first_audio or float("inf")) - outcome.due)
    machine.close()
    ours, theirs = statistics.median(through[2:]) * 1000, statistics.median(direct[2:]) * 1000
    found = f"{ours - theirs:+.1f} ms ({ours:.1f} over {theirs:.1f})"
    return Row(
        "gateway and Triton, first audio over that of the classes alone (p50)", found, "≤ 5 ms", ours - theirs <= 5
    )


async def _dropped(target: Triton, pid: int, max_tokens: int, drops: int, streams: int) -> Row:
    """Open streams and leave each at a random moment; compare the server's memory before and after."""
    await _leave(target, utterances(max(drops // 10, 2 * streams), max_tokens), streams)
    before = await _settled_bytes(pid)
    await _leave(target, utterances(drops, max_tokens), streams)
    after = await _settled_bytes(pid)
    change = after / before - 1
    return Row(
        f"memory of all processes after {drops} streams opened and dropped",
        f"{change:+.2%} ({before / 1e6:.0f} → {after / 1e6:.0f} MB)",
        "within ±2 %",
        abs(change) <= 0.02,
    )


async def _leave(target: Triton, wanted: list[Utterance], at_once: int) -> None:
    moments = random.Random(0)
    waiting = iter(wanted)

    async def listener() -> None:
        for utterance in waiting:
            async with _listening(target, utterance):
                await asyncio.sleep(moments.uniform(0, 1))

    await asyncio.gather(*(listener() for _ in range(at_once)))


@asynccontextmanager
async def _listening(target: Triton, utterance: Utterance) -> AsyncIterator[None]:
    async def listen() -> None:
        async with aclosing(target.speak(utterance)) as parts:
            async for _ in parts:
                pass

    task = asyncio.create_task(listen())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _settled_bytes(pid: int) -> int:
    await asyncio.sleep(SETTLED_SECONDS)
    return proportional_bytes(pid)


async def _all(target: Target, wanted: list[Utterance], at_once: int) -> list[Outcome]:
    return await closed_loop(target, wanted, at_once, lambda _: None)


def _int32(value: int) -> NDArray[np.int32]:
    return np.array([value], np.int32)


if __name__ == "__main__":
    typer.run(main)
