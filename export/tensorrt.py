"""TensorRT plans for the networks that gain most from them. Needs a GPU and TensorRT's own `trtexec`.

A plan is tied to the GPU and the TensorRT version that built it: it is built where it is served and never shipped.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx.utils import Extractor
from rich.console import Console


@dataclass(frozen=True)
class Profile:
    """The range of shapes one plan serves: each input's shape at the least, usual and greatest size."""

    least: dict[str, tuple[int, ...]]
    usual: dict[str, tuple[int, ...]]
    greatest: dict[str, tuple[int, ...]]


def _linguistic(batch: int, seconds: int) -> dict[str, tuple[int, ...]]:
    return {"audio": (batch, 16_000 * seconds), "audio_length": (batch, 1), "dither": (batch, 1)}


def _vocoder(batch: int, frames: int, cached: int) -> dict[str, tuple[int, ...]]:
    return {
        "mel": (batch, 80, frames),
        "mel_length": (batch, 1),
        "noise": (batch, 480 * frames),
        "cached_source": (batch, cached),
        "cached_source_length": (batch, 1),
    }


PROFILES = {
    "linguistic_tokenizer": Profile(_linguistic(1, 1), _linguistic(4, 8), _linguistic(8, 61)),
    "vocoder": Profile(_vocoder(1, 6, 1), _vocoder(4, 250, 3840), _vocoder(8, 3000, 3840)),
}


def build_plans(model_repository: Path, only: list[str], trtexec: str, console: Console) -> None:
    """Write `model.plan` beside each `model.onnx` and switch that model's config to the `tensorrt` backend.

    Both networks stay in float32 (TF32 off): the vocoder's phase and F0 and the tokenizer's nearest-centroid decision
    do not survive half precision.

    Raises:
        SystemExit: an unknown model is named, `model.onnx` is missing, or `trtexec` fails.
    """
    for model in only or PROFILES:
        if model not in PROFILES:
            raise SystemExit(f"no TensorRT plan for {model}; there are: {', '.join(PROFILES)}")
        folder = model_repository / model
        source = folder / "1" / "model.onnx"
        if not source.exists():
            raise SystemExit(f"{source} is missing: run `python -m export build` first")
        outputs = re.findall(r'output\s*(?:\[\s*)?{\s*name:\s*"(\w+)"', (folder / "config.pbtxt").read_text())
        console.print(f"{model}: building a plan, minutes …")
        with tempfile.TemporaryDirectory() as work:
            served = Path(work) / "model.onnx"
            _keep_outputs(source, served, outputs)
            _run_trtexec(trtexec, served, folder / "1" / "model.plan", PROFILES[model])
        _switch_backend(folder / "config.pbtxt")


def _keep_outputs(source: Path, target: Path, outputs: list[str]) -> None:
    """Drop the outputs that only parity tests read: a plan would compute them on every request."""
    model = onnx.load(source)
    inputs = [value.name for value in model.graph.input]
    onnx.save(Extractor(model).extract_model(inputs, outputs), target)


def _run_trtexec(trtexec: str, source: Path, plan: Path, profile: Profile) -> None:
    def shapes(sizes: dict[str, tuple[int, ...]]) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in sizes.items())

    command = [
        trtexec,
        f"--onnx={source}",
        f"--saveEngine={plan}",
        "--noTF32",
        f"--minShapes={shapes(profile.least)}",
        f"--optShapes={shapes(profile.usual)}",
        f"--maxShapes={shapes(profile.greatest)}",
    ]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603
        raise SystemExit(f"trtexec failed; the command was: {' '.join(command)}")


def _switch_backend(config: Path) -> None:
    text = config.read_text()
    config.write_text(text.replace('backend: "onnxruntime"', 'backend: "tensorrt"'))
