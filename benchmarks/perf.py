"""NVIDIA's perf_analyzer on every model of a running server: its own tables on screen, CSV files in `out/perf`.

`python -m benchmarks.perf` measures the server at `--url`, or starts one for the time of the measurement when none
answers there.
"""

import csv
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tritonclient.grpc as triton
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.perf_analyzer import Unavailable, perf_analyzer
from benchmarks.perf_inputs import Tensors, chain_inputs, perf_analyzer_data
from benchmarks.running import answers, started

ROOT = Path(__file__).resolve().parent.parent
VOICES = ROOT / "gateway" / "assets" / "voices"
PERF_ANALYZER = ROOT / "build" / "perf_analyzer"
BATCHED = ("linguistic_tokenizer", "semantic_tokenizer", "speaker_encoder", "vocoder", "sense_voice")
DECOUPLED = ("llm_base", "step_audio_editx_stream")
COLUMNS = {"Concurrency": "concurrency", "Inferences/Second": "requests/s"} | {
    f"p{percent} latency": f"p{percent} ms" for percent in (50, 90, 99)
}
console = Console()


def main(
    url: Annotated[str, typer.Option(help="Host and port of Triton's gRPC end point.")] = "127.0.0.1:8001",
    model: Annotated[list[str] | None, typer.Option(help="Measure this model only; may be repeated.")] = None,
    concurrency: Annotated[list[int] | None, typer.Option(help="Requests kept under way; default 1 and 4.")] = None,
    requests: Annotated[int, typer.Option(help="Least requests in each of the three windows.")] = 10,
    clip: Annotated[Path, typer.Option(help="Recording to clone.")] = VOICES / "happy_en.wav",
    prompt_text: Annotated[str, typer.Option(help="Words spoken in it; default: those of the built-in voice.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the CSV files.")] = Path("out/perf"),
) -> None:
    """Run perf_analyzer on every model and on the whole chain, with a real recording as input."""
    try:
        program, environment = perf_analyzer(PERF_ANALYZER)
    except Unavailable as error:
        console.print(f"[red]no perf_analyzer: {error}[/red]")
        raise typer.Exit(1) from error
    out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, dict[str, str]]] = []
    with _server(url) as address:
        inputs = chain_inputs(triton.InferenceServerClient(address), clip, prompt_text or _prompt_text(clip))
        if unknown := sorted(set(model or ()) - set(inputs)):
            console.print(f"[red]no such model: {', '.join(unknown)}; there are {', '.join(inputs)}[/red]")
            raise typer.Exit(1)
        for name in model or inputs:
            data = out / f"{name}.json"
            data.write_text(json.dumps(perf_analyzer_data(inputs[name])))
            for level in concurrency or (1, 4):
                report = out / f"{name}-{level}.csv"
                command = [str(program), *_arguments(name, inputs[name], address, data, level, requests, report)]
                subprocess.run(command, env=environment, check=True)
                rows += [(name, row) for row in _read(report)]
    _print(rows)


def _arguments(
    model: str, tensors: Tensors, url: str, data: Path, concurrency: int, requests: int, report: Path
) -> list[str]:
    options = ["-m", model, "-u", url, "-i", "grpc", "--input-data", str(data)]
    options += ["--concurrency-range", str(concurrency), "-f", str(report), "--verbose-csv"]
    # Three windows of at least so many requests. `--request-count` would end sooner, but counts time in whole seconds.
    options += ["--measurement-mode", "count_windows", "--measurement-request-count", str(requests)]
    options += ["--max-trials", "3", "--stability-percentage", "999"]
    if model in DECOUPLED:
        options += ["--async", "--streaming"]
    if model in BATCHED:
        options += ["-b", "1"]
    for name, array in tensors.items():
        options += ["--shape", f"{name}:{','.join(map(str, array.shape))}"]
    return options


def _read(report: Path) -> Iterator[dict[str, str]]:
    with report.open(newline="") as file:
        yield from csv.DictReader(file)


def _print(rows: list[tuple[str, dict[str, str]]]) -> None:
    table = Table("model", *COLUMNS.values(), title="perf_analyzer")
    for model, row in rows:
        cells = [row[name] for name in COLUMNS]
        latencies = [f"{float(cell) / 1000:.1f}" for cell in cells[2:]]
        table.add_row(model, cells[0], f"{float(cells[1]):.2f}", *latencies)
    console.print(table)


def _prompt_text(clip: Path) -> str:
    listed = json.loads((VOICES / "voices.json").read_text(encoding="utf-8"))
    return next((entry["prompt_text"] for entry in listed if entry["id"] == clip.stem), "")


@contextmanager
def _server(url: str) -> Iterator[str]:
    """Yield the address of the server at `url`, or of one started for the time being when nothing answers there."""
    if answers(url):
        yield url
        return
    console.print(f"nothing answers at {url}: starting a server")
    with started(console, grpc_port=url.rpartition(":")[2], gateway=False):
        yield url


if __name__ == "__main__":
    typer.run(main)
