"""The linguistic tokenizer against the original's chunk loop: released sizes, same random weights, same codes."""

import functools
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks.chunk_loop import original_chunk_loop, own_chunk_loop
from benchmarks.report import Row, best_seconds
from export.checkpoint import Checkpoint, plain_yaml
from export.demo.signals import speech_like
from export.demo.tokenizer import write_tokenizer
from export.linguistic_tokenizer import LinguisticTokenizer, export

WORK = Path(__file__).resolve().parent.parent / "build" / "benchmark-tokenizer"
SECONDS = 10
SEED = 2025
RUNS = 5


def rows(original: Path | None, threads: int) -> list[Row]:
    """Compare at `threads` threads.

    Ours is timed from waveform to codes. The baseline is given its features and timed from there to codes, so the
    comparison leaves its front end out.

    Args:
        original: a Step-Audio-EditX checkout, or `None` to compare with a plain chunk loop of our own.
        threads: compute threads of either side.

    Raises:
        RuntimeError: the two disagree on a code.
    """
    checkpoint = _checkpoint()
    network = LinguisticTokenizer.load(checkpoint)
    audio = torch.from_numpy(speech_like(SEED, SECONDS))[None]
    length, dither = torch.tensor([[SECONDS * 16_000]], dtype=torch.int32), torch.ones(1, 1)
    torch.set_num_threads(threads)
    with torch.inference_mode():
        features, count = network.features(audio, length.long(), dither)
        features = features[0, : int(count)]
        if original is None:
            encode = own_chunk_loop(network.encoder)
        else:
            config = plain_yaml(checkpoint.require("linguistic_dir") / "config.yaml")
            encode = original_chunk_loop(original, config, network.encoder.state_dict())
        centroids = torch.from_numpy(np.load(checkpoint.require("centroids")))

        def baseline() -> torch.Tensor:
            return torch.cdist(encode(features), centroids).argmin(dim=1)

        session = _session(WORK / "model.onnx", threads)
        inputs = {"audio": audio.numpy(), "audio_length": length.numpy(), "dither": dither.numpy()}

        def ours() -> list[NDArray[np.int32]]:
            return session.run(["codes", "codes_length"], inputs)

        expected = baseline().numpy()
        codes, codes_length = ours()
        ours_seconds, baseline_seconds = best_seconds(RUNS, ours, baseline)
    if not np.array_equal(codes[0, : codes_length[0, 0]], expected):
        raise RuntimeError("the chunk loop and the exported network give different codes")
    return [
        Row(
            stage="linguistic tokenizer",
            threads=threads,
            ours_seconds=ours_seconds,
            baseline_seconds=baseline_seconds,
            baseline_name="our plain chunk loop, torch" if original is None else "the original's chunk loop, torch",
            note=f"50 x 512, {SECONDS} s clip, {len(expected)} equal codes, {len(set(expected.tolist()))} different",
        )
    ]


@functools.cache
def _checkpoint() -> Checkpoint:
    """Write the random checkpoint once for all runs, and its export once for this one."""
    if not (WORK / "speech_tokenizer_v1.onnx").exists():  # the file written last
        write_tokenizer(WORK, "released", SEED)
    checkpoint = Checkpoint.open(WORK)
    export(checkpoint, WORK)
    return checkpoint


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
