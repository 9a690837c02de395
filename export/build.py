"""Export every network a checkpoint holds into the model repository."""

import functools
import hashlib
import importlib
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from export.checkpoint import Checkpoint
from export.variants import write_folders

STAMP = "export.json"


class BuildError(Exception):
    """The checkpoint lacks what was asked for; the message says what."""


@dataclass(frozen=True)
class Network:
    """One model of the repository and what its export reads.

    Args:
        model: folder in the model repository.
        module: module of `export` whose `export(checkpoint, destination)` writes the files.
        sources: lists the checkpoint files it reads; `None` or an empty list where the checkpoint lacks them.
        variant: which weights of the language model; other than `base`, its folders are written too.
    """

    model: str
    module: str
    sources: Callable[[Checkpoint], list[Path] | None]
    variant: str = "base"


def _files(directory: Path | None, *patterns: str) -> list[Path] | None:
    if directory is None:
        return None
    return sorted(path for pattern in patterns for path in directory.glob(pattern))


def _language_model(checkpoint: Checkpoint) -> list[Path] | None:
    return _files(checkpoint.llm_dir, "*.json", "*.safetensors", "tokenizer.model")


def _linguistic(checkpoint: Checkpoint) -> list[Path] | None:
    if checkpoint.linguistic_dir is None or checkpoint.centroids is None:
        return None
    return [*(_files(checkpoint.linguistic_dir, "*") or []), checkpoint.centroids]


RECOGNIZER_FILES = ("model.pt", "config.yaml", "am.mvn", "*.bpe.model")

NETWORKS = (
    Network("linguistic_tokenizer", "linguistic_tokenizer", _linguistic),
    Network("semantic_tokenizer", "semantic_tokenizer", lambda c: [c.semantic_onnx] if c.semantic_onnx else None),
    Network("speaker_encoder", "speaker_encoder", lambda c: [c.campplus_onnx] if c.campplus_onnx else None),
    Network("llm_base", "llm", _language_model),
    Network("llm_bnb", "llm", _language_model, "bnb"),
    Network("llm_awq", "llm", _language_model, "awq"),
    Network("flow", "flow", lambda c: _files(c.vocoder_dir, "cosyvoice.yaml", "flow.pt")),
    Network("vocoder", "vocoder", lambda c: _files(c.vocoder_dir, "cosyvoice.yaml", "hift.pt")),
    Network("sense_voice", "sense_voice", lambda c: _files(c.recognizer_dir, *RECOGNIZER_FILES)),
    Network("speech_recognizer", "speech_recognizer", lambda c: _files(c.recognizer_dir, "config.yaml", "*.bpe.model")),
)


def build(directory: Path, model_repository: Path, only: list[str], force: bool, console: Console) -> None:
    """Write the files of each model that `directory` holds a network for.

    Raises:
        BuildError: nothing to export, an unknown name in `only`, or a network named there is not in the checkpoint.
        CheckpointError: a file of the checkpoint cannot be used.
    """
    unknown = sorted(set(only) - {network.model for network in NETWORKS})
    if unknown:
        known = ", ".join(network.model for network in NETWORKS)
        raise BuildError(f"no such model: {', '.join(unknown)}. Known: {known}")
    if not directory.is_dir():
        raise BuildError(
            f"{directory} is not a folder. Get one with `python -m export demo` or `python -m export fetch`."
        )
    opened = Checkpoint.open(directory)
    done = 0
    for network in NETWORKS:
        if only and network.model not in only:
            continue
        checkpoint = opened if network.variant == "base" else opened.of_variant(network.variant)
        sources = network.sources(checkpoint)
        if not sources:
            if network.model in only:
                raise BuildError(f"{directory} holds no network for {network.model}")
            console.print(f"  {network.model}: not in this checkpoint, left as it is")
            continue
        if network.variant != "base":
            write_folders(model_repository, network.variant)
        _export(network, checkpoint, sources, model_repository / network.model / "1", force, console)
        done += 1
    if done == 0:
        raise BuildError(f"{directory} holds no network this project knows; docs/architecture.md shows the layout")


@functools.cache
def _code_fingerprint() -> str:
    """Identify the code that shapes the files, so that a newer project exports again."""
    root = Path(__file__).resolve().parent.parent
    read_by_exports = (
        "export/*.py",
        "python_backend/noise.py",
        "python_backend/asr/*.py",
        "python_backend/embedding/description.py",
        "python_backend/voice/*.py",
        "python_backend/token2wav/*.py",
    )
    digest = hashlib.sha256()
    for path in sorted(path for pattern in read_by_exports for path in root.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _export(
    network: Network, checkpoint: Checkpoint, sources: list[Path], destination: Path, force: bool, console: Console
) -> None:
    def write(work: Path) -> None:
        importlib.import_module(f"export.{network.module}").export(checkpoint, work)

    write_stamped(network.model, write, sources, destination, force, console)


def write_stamped(
    model: str, write: Callable[[Path], None], sources: list[Path], destination: Path, force: bool, console: Console
) -> None:
    """Let `write` fill the folder of one model, unless it already did so from the same files by the same code.

    Files appear in the repository only when all are whole: an interrupted export leaves the old ones in place.

    Args:
        model: its name.
        write: writes its files into the folder it is given.
        sources: the checkpoint files it reads.
        destination: `<repository>/<model>/1`.
        force: write in any case.
        console: told what happened.
    """
    stamp = {
        "code": _code_fingerprint(),
        "sources": {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in sources},
    }
    stamp_file = destination / STAMP
    if not force and stamp_file.exists() and json.loads(stamp_file.read_text()) == stamp:
        console.print(f"  {model}: up to date")
        return
    started = time.perf_counter()
    warnings.filterwarnings("ignore", message="Constant folding", category=UserWarning)  # the exporter's own notes
    destination.mkdir(parents=True, exist_ok=True)
    stamp_file.unlink(missing_ok=True)
    with console.status(f"exporting {model} …"), tempfile.TemporaryDirectory(dir=destination.parent) as work:
        write(Path(work))
        written = sorted(Path(work).iterdir())
        size = sum(path.stat().st_size for path in written)
        for path in written:
            path.chmod(0o644)  # some writers leave files to their owner, but a container may serve as someone else
            shutil.move(path, destination / path.name)
    for stale in {*destination.glob("*.safetensors*"), *destination.glob("*.onnx*")}:
        if stale.name not in {path.name for path in written}:
            stale.unlink()  # of another checkpoint: it must not be loaded beside these
    stamp_file.write_text(json.dumps(stamp, indent=1) + "\n")
    console.print(f"  {model}: {size / 1e6:,.1f} MB in {time.perf_counter() - started:.1f} s")
