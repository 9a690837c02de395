"""How far a streamed mel is from the whole utterance's, at and away from the seams, and what each decision changes.

Runs on the small golden checkpoint: its weights are random, so orders of magnitude count, not sound.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from export.flow import load, read_config
from python_backend.token2wav.streaming.chunks import Chunker
from python_backend.token2wav.streaming.flow import PROMPT_SEED, Limits, StreamingFlow
from python_backend.token2wav.streaming.noise import SeededNoise
from python_backend.token2wav.streaming.parity import RecordedNoise
from python_backend.token2wav.token2mel import MelRequest, TokenToMel
from python_backend.token2wav.torch_runtime import TorchRuntime

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "vocoder_small"
VOICES = ("s1", "s2", "s3")
LENGTHS = (50, 150)  # groups of 0.12 s
SEAM_FRAMES = 4  # on either side
STEPS, GUIDANCE = 10, 0.7
UNLIMITED = 10_000


class Variant(NamedTuple):
    """A way to stream; the defaults are what is served."""

    name: str
    own_lookahead: bool = True
    fixed_prompt_noise: bool = True
    noise_by_position: bool = True
    limits: Limits = Limits()


ORIGINAL = Limits(encoder_context=UNLIMITED)
VARIANTS = (
    Variant("as the original", False, False, False, ORIGINAL),
    Variant("+ noise by position", False, False, True, ORIGINAL),
    Variant("+ prompt's own look-ahead", True, False, True, ORIGINAL),
    Variant("+ prompt noise of the voice", True, True, True, ORIGINAL),
    Variant("+ bounded encoder memory: as served"),
    Variant("as served, encoder context 48 pairs", limits=replace(Limits(), encoder_context=48)),
    Variant("as served, estimator context 192 frames", limits=replace(Limits(), estimator_context=192)),
)


class Voice(NamedTuple):
    """What `StreamingFlow.prepare` and `MelRequest` take first."""

    prompt_tokens: NDArray[np.int32]
    prompt_mel: NDArray[np.float32]
    speaker_embedding: NDArray[np.float32]


def voices() -> list[Voice]:
    """Read the voices of the golden streams."""
    with np.load(GOLDEN / "golden_stream.npz") as file:
        return [
            Voice(
                file[f"{name}_prompt_token"][0].astype(np.int32),
                file[f"{name}_prompt_feat"][0].T,
                file[f"{name}_embedding"][0],
            )
            for name in VOICES
        ]


def random_tokens(groups: int, seed: int) -> NDArray[np.int32]:
    """Return int32 [5 * groups]."""
    random = np.random.default_rng(seed)
    slots = [random.integers(0, 1024, (groups, 2)), random.integers(1024, 5120, (groups, 3))]
    return np.concatenate(slots, axis=1).astype(np.int32).ravel()


def stream(
    flow: StreamingFlow, channels: int, variant: Variant, voice: Voice, tokens: NDArray[np.int32], seed: int
) -> tuple[NDArray[np.float32], list[int]]:
    """Return the mel and the frames its chunks end at, the last one's left out."""
    noise = SeededNoise(seed, channels)
    prompt = flow.prepare(
        *voice,
        steps=STEPS,
        guidance=GUIDANCE,
        lookahead=None if variant.own_lookahead else tokens[:5],
        noise=SeededNoise(PROMPT_SEED, channels) if variant.fixed_prompt_noise else noise,
    )
    held = prompt.conditions.frames + variant.limits.estimator_context
    saturating = RecordedNoise(noise(0, held + UNLIMITED), held)
    under_way = flow.open(prompt, noise if variant.noise_by_position else saturating, variant.limits)
    mels = [flow.push(under_way, chunk) for chunk in Chunker().push(tokens, last=True)]
    return np.concatenate(mels, axis=1), np.cumsum([mel.shape[1] for mel in mels])[:-1].tolist()


def distance(mel: NDArray[np.float32], whole: NDArray[np.float32], seams: list[int]) -> tuple[float, float]:
    """Return the RMS difference at seams and elsewhere, over the standard deviation of the whole mel."""
    frames = np.sqrt(np.square(mel - whole).mean(axis=0)) / whole.std()
    near = np.zeros(len(frames), dtype=bool)
    for seam in seams:
        near[max(0, seam - SEAM_FRAMES) : seam + SEAM_FRAMES] = True
    return float(frames[near].mean()), float(frames[~near].mean())


def main() -> None:
    """Print a Markdown table for each length."""
    torch.set_num_threads(1)
    config = read_config(GOLDEN)
    runtime = TorchRuntime(load(GOLDEN), torch.device("cpu"), torch.float32)
    offline, flow = TokenToMel(runtime, config), StreamingFlow(runtime.flow, config)
    for groups in LENGTHS:
        print(f"\n{groups * 0.12:g} s\n\n| | at seams | elsewhere |\n|---|---|---|")
        found: dict[str, list[tuple[float, float]]] = {}
        for seed, voice in enumerate(voices(), start=1):
            tokens = random_tokens(groups, seed)
            whole = offline.generate(MelRequest(tokens, *voice, seed=seed)).mel
            for variant in VARIANTS:
                mel, seams = stream(flow, config.mel_channels, variant, voice, tokens, seed)
                found.setdefault(variant.name, []).append(distance(mel, whole, seams))
            other = offline.generate(MelRequest(tokens, *voice, seed=seed + 100)).mel
            found.setdefault("whole utterance, another seed", []).append(distance(other, whole, seams))
        for name, values in found.items():
            at, away = np.mean(values, axis=0)
            print(f"| {name} | {at:.3f} | {away:.3f} |")


if __name__ == "__main__":
    main()
