"""A voice found in the cache against one that is encoded, inside `voice_encoder` on a CPU, at the released sizes.

`python -m benchmarks.voice_cache` writes random networks of the released dimensions once and serves the models of the
voice side. Encoding counts with its slowest network alone, so the ratios are lower bounds.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import tritonclient.grpc as triton
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.report import Row, print_rows
from benchmarks.served import served
from client.tensors import text_tensor
from export.build import build
from export.demo.signals import speech_like
from export.demo.speaker import write_speaker
from export.demo.tokenizer import write_tokenizer
from python_backend.voice.cache.key import NETWORKS

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "benchmark-voice"
SECONDS = 10
RATE = 24_000
SEED = 2025
HITS = 50
TARGET = 800


def main(
    clips: Annotated[int, typer.Option(help="Different clips to encode.")] = 3,
    threads: Annotated[int, typer.Option(help="Compute threads of the networks.")] = 1,
) -> None:
    """Compare, print a table, and fail where a hit in memory is less than 800 times faster."""
    repository = _repository()
    waveforms = [_clip(number) for number in range(clips + 1)]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"VOICE_CACHE_DIR": folder, "OMP_NUM_THREADS": str(threads)}
        with served(repository, settings, "--no-gateway") as addresses:
            server = triton.InferenceServerClient(addresses.triton)
            _milliseconds(server, waveforms.pop())  # the first request of all finds cold networks
            encoding = min(_milliseconds(server, waveform, hit=False) for waveform in waveforms)
            memory = min(_milliseconds(server, waveforms[0], hit=True) for _ in range(HITS))
            key = server.infer("voice_encoder", _inputs(waveforms[0])).as_numpy("voice_key")[0].decode()
            by_key = min(_milliseconds(server, key, hit=True) for _ in range(HITS))
        with served(repository, settings, "--no-gateway") as addresses:
            server = triton.InferenceServerClient(addresses.triton)
            disk = min(_milliseconds(server, waveform, hit=True) for waveform in waveforms)
    note = f"{SECONDS} s clip, {RATE // 1000} kHz"
    rows = [
        Row(name, threads, spent / 1e3, encoding / 1e3, "its slowest network", note, digits=6)
        for name, spent in (("hit in memory", memory), ("by key", by_key), ("on disk, after a restart", disk))
    ]
    print_rows(rows)
    if rows[0].ratio < TARGET:
        raise SystemExit(f"a hit in memory is only {rows[0].ratio:.0f} times faster, {TARGET} is the target")


def _milliseconds(
    server: triton.InferenceServerClient, voice: NDArray[np.float32] | str, hit: bool | None = None
) -> float:
    answer = server.infer("voice_encoder", _inputs(voice))
    found = bool(answer.as_numpy("cache_hit")[0])
    if hit is not None and found is not hit:
        raise RuntimeError(f"cache_hit is {found}")
    return float(answer.as_numpy("stage_ms").max())


def _inputs(voice: NDArray[np.float32] | str) -> list[triton.InferInput]:
    if isinstance(voice, str):
        return [text_tensor("voice_key", voice)]
    audio = triton.InferInput("audio", [len(voice)], "FP32")
    audio.set_data_from_numpy(voice)
    rate = triton.InferInput("sample_rate", [1], "INT32")
    rate.set_data_from_numpy(np.array([RATE], np.int32))
    return [audio, rate]


def _clip(number: int) -> NDArray[np.float32]:
    """Return 10 s at 24 kHz; its sound does not matter, only that clips differ."""
    return speech_like(SEED + number, SECONDS * RATE / 16_000)[: SECONDS * RATE].astype(np.float32)


def _repository() -> Path:
    """Write the random networks and their models once for all runs."""
    checkpoint, repository = WORK / "checkpoint", WORK / "model_repository"
    if not (checkpoint / "complete").exists():
        print("writing networks of the released sizes: a minute …", flush=True)
        write_tokenizer(checkpoint / "Step-Audio-Tokenizer", "released", SEED)
        write_speaker(checkpoint / "Step-Audio-EditX" / "CosyVoice-300M-25Hz", "released", SEED)
        (checkpoint / "complete").touch()
    for model in ("voice_encoder", *NETWORKS):
        source = ROOT / "model_repository" / model
        for path in (source / "config.pbtxt", *source.glob("warmup/*"), *source.glob("1/model.py")):
            copy = repository / model / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    build(checkpoint, repository, list(NETWORKS), force=False, console=Console())
    return repository


if __name__ == "__main__":
    typer.run(main)
