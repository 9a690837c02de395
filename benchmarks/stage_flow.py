"""The flow against the original's torch code: released sizes, the same random weights, noise and inputs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.original_vocoder import load_flow, relative_rms
from benchmarks.report import Row, best_seconds
from benchmarks.vocoder_checkpoint import vocoder_checkpoint
from export.flow import load, read_config
from python_backend.token2wav.runtime import default_dtype
from python_backend.token2wav.token2mel import DEFAULT_STEPS, MelRequest, TokenToMel
from python_backend.token2wav.tokens import nearest_frames, pairs
from python_backend.token2wav.torch_runtime import TorchRuntime

PROMPT_SECONDS, SECONDS = 3.0, 10.0
GROUP_SECONDS = 0.12
FRAMES_PER_GROUP = 6
RUNS = 3
SEED = 7
CPU = torch.device("cpu")


def rows(original: Path | None, threads: int) -> list[Row]:
    """Compare at `threads` threads, from tokens to mel.

    Args:
        original: a Step-Audio-EditX checkout, or `None` to compare with our own torch form in float32.
        threads: compute threads of either side.
    """
    directory = vocoder_checkpoint()
    config = read_config(directory)
    request = _request(config.mel_channels, config.speaker_size)
    torch.set_num_threads(threads)

    def own(dtype: torch.dtype) -> Callable[[], torch.Tensor]:
        model = TokenToMel(TorchRuntime(load(directory), CPU, dtype), config)
        return lambda: torch.from_numpy(model.generate(request).mel)

    if original is None:
        baseline, name = own(torch.float32), "our torch form, float32"
        dtypes = {default_dtype(CPU, config.estimator.hidden_size)}
    else:
        baseline, name = _original(original, directory, request, config.vocab_size), "the original's torch, float32"
        dtypes = {default_dtype(CPU, config.estimator.hidden_size), torch.float32}
    sides = {dtype: own(dtype) for dtype in sorted(dtypes, key=str)}
    expected = baseline()
    baseline_seconds, *seconds = best_seconds(RUNS, baseline, *sides.values())
    return [
        Row(
            stage=f"flow, torch, {str(dtype).removeprefix('torch.')}",
            threads=threads,
            ours_seconds=taken,
            baseline_seconds=baseline_seconds,
            baseline_name=name,
            note=f"{SECONDS:g} s after a {PROMPT_SECONDS:g} s prompt, {DEFAULT_STEPS} steps, "
            f"relative RMS difference of the mel {relative_rms(side(), expected):.1e}",
        )
        for (dtype, side), taken in zip(sides.items(), seconds, strict=True)
    ]


def _original(original: Path, directory: Path, request: MelRequest, vocab_size: int) -> Callable[[], torch.Tensor]:
    """Return a call of the original's `inference`, the stage between its token reshape and its vocoder."""
    flow = load_flow(original, directory)
    prompt, target = (
        torch.from_numpy(pairs("tokens", tokens, vocab_size, len(tokens)))[None]
        for tokens in (request.prompt_tokens, request.tokens)
    )
    aligned = request.prompt_mel.T[nearest_frames(request.prompt_mel.shape[1], 2 * prompt.shape[1])]
    prompt_mel = torch.from_numpy(aligned)[None]
    speaker = torch.from_numpy(request.speaker_embedding)[None].bfloat16().float()
    flow.decoder.rand_noise = torch.from_numpy(np.asarray(request.initial_noise))[None]

    def run() -> torch.Tensor:
        length = [torch.tensor([value.shape[1]]) for value in (target, prompt, prompt_mel)]
        mel: torch.Tensor = flow.inference(
            target, length[0], prompt, length[1], prompt_mel, length[2], speaker, DEFAULT_STEPS
        )
        return mel[0]

    return run


def _request(mel_channels: int, speaker_size: int) -> MelRequest:
    random = np.random.default_rng(SEED)
    prompt_groups, groups = round(PROMPT_SECONDS / GROUP_SECONDS), round(SECONDS / GROUP_SECONDS)

    def tokens(count: int) -> np.ndarray:
        slots = [random.integers(0, 1024, (count, 2)), random.integers(1024, 5120, (count, 3))]
        return np.concatenate(slots, axis=1).reshape(-1).astype(np.int32)

    frames = FRAMES_PER_GROUP * (prompt_groups + groups)
    return MelRequest(
        tokens=tokens(groups),
        prompt_tokens=tokens(prompt_groups),
        prompt_mel=random.standard_normal((mel_channels, FRAMES_PER_GROUP * prompt_groups + 2)).astype(np.float32),
        speaker_embedding=random.standard_normal(speaker_size).astype(np.float32),
        initial_noise=random.standard_normal((mel_channels, frames)).astype(np.float32),
    )
