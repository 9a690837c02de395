"""The vocoder as it is served, on ONNX Runtime, against the original's torch code: released sizes, the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from benchmarks.original_vocoder import load_hift, relative_rms
from benchmarks.report import Row, best_seconds
from benchmarks.vocoder_checkpoint import WORK, vocoder_checkpoint
from export.checkpoint import Checkpoint
from export.vocoder import INPUTS, export, load

SECONDS = 10
FRAMES = 50 * SECONDS
HOP = 480
RUNS = 5
SEED = 7


def rows(original: Path | None, threads: int) -> list[Row]:
    """Compare at `threads` threads, from mel to waveform, F0 and source included on either side.

    The original draws its source noise itself, so for the comparison of waveforms ours is given the original's source.

    Args:
        original: a Step-Audio-EditX checkout, or `None` to compare with our own torch form.
        threads: compute threads of either side.
    """
    directory = vocoder_checkpoint()
    torch.set_num_threads(threads)
    random = torch.Generator().manual_seed(SEED)
    mel = torch.randn(1, 80, FRAMES, generator=random)
    length = torch.tensor([[FRAMES]], dtype=torch.int32)
    noise = torch.randn(1, HOP * FRAMES, generator=random)
    nothing = (torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int32))
    session = _session(threads)
    feeds = _feeds(mel, length, noise, *nothing)
    with torch.inference_mode():
        if original is None:
            plain, name = load(directory), "our torch form, float32"
            expected, _, source, _ = plain(mel, length, noise, *nothing)
            baseline: Callable[[], object] = lambda: plain(mel, length, noise, *nothing)  # noqa: E731
        else:
            hift, name = load_hift(original, directory), "the original's torch, float32"
            expected, source = hift.inference(mel)
            source = source[:, 0]
            baseline = lambda: hift.inference(mel)  # noqa: E731
        ours_seconds, baseline_seconds = best_seconds(
            RUNS, lambda: session.run(["waveform", "waveform_length"], feeds), baseline
        )
    given = _feeds(mel, length, noise, source, torch.full((1, 1), source.shape[1], dtype=torch.int32))
    waveform = torch.from_numpy(session.run(["waveform"], given)[0])
    return [
        Row(
            stage="vocoder, onnxruntime",
            threads=threads,
            ours_seconds=ours_seconds,
            baseline_seconds=baseline_seconds,
            baseline_name=name,
            note=f"{SECONDS} s of mel, relative RMS difference of the waveform on one source "
            f"{relative_rms(waveform, expected):.1e}",
        )
    ]


def _feeds(*tensors: torch.Tensor) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in zip(INPUTS, tensors, strict=True)}


def _session(threads: int) -> onnxruntime.InferenceSession:
    export(Checkpoint.open(WORK), WORK)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(WORK / "model.onnx", options, providers=["CPUExecutionProvider"])
