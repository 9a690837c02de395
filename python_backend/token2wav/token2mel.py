"""One request of the flow model: audio tokens and a voice to mel."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from python_backend.errors import InvalidInput
from python_backend.noise import gaussian
from python_backend.token2wav.config import FlowConfig
from python_backend.token2wav.runtime import FlowRuntime
from python_backend.token2wav.solver import solve
from python_backend.token2wav.tokens import PAIRS_PER_GROUP, nearest_frames, pairs

MAX_GROUPS = 600  # 72 s each of prompt and speech: a 60 s clip, and room for an edit that slows it down
MAX_STEPS = 100
MAX_GUIDANCE = 10.0
DEFAULT_STEPS = 10


@dataclass(frozen=True)
class MelRequest:
    """Inputs as docs/architecture.md names them.

    Attributes:
        tokens: int32 [5g].
        prompt_tokens: int32 [5p].
        prompt_mel: float32 [mel, T], any T.
        speaker_embedding: float32 [speaker_size].
        seed: of the noise.
        steps: 1 … 100.
        guidance: 0 … 10; None for the checkpoint's own.
        initial_noise: float32 [mel, 6(p + g)] in place of the seeded noise.
    """

    tokens: NDArray[np.int32]
    prompt_tokens: NDArray[np.int32]
    prompt_mel: NDArray[np.float32]
    speaker_embedding: NDArray[np.float32]
    seed: int = 0
    steps: int = DEFAULT_STEPS
    guidance: float | None = None
    initial_noise: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Mel:
    """What a request gives.

    Attributes:
        mel: float32 [mel, 6g], without the prompt.
        stage_ms: milliseconds of the encoder and of the solver.
    """

    mel: NDArray[np.float32]
    stage_ms: tuple[float, float]


def solver_settings(steps: int, guidance: float | None, config: FlowConfig) -> tuple[int, float]:
    """Return steps and guidance to solve with; None is the checkpoint's own guidance.

    Raises:
        InvalidInput: one is out of range.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise InvalidInput("steps", f"must be 1 … {MAX_STEPS}, is {steps}")
    guidance = config.guidance if guidance is None else guidance
    if not 0 <= guidance <= MAX_GUIDANCE:
        raise InvalidInput("guidance", f"must be 0 … {MAX_GUIDANCE:g}, is {guidance:g}")
    return steps, guidance


class TokenToMel:
    """Checks a request, runs encoder and solver on a runtime. One request at a time."""

    def __init__(self, runtime: FlowRuntime, config: FlowConfig):
        self._runtime = runtime
        self._config = config
        self.frames_per_group = PAIRS_PER_GROUP * config.encoder.up_stride

    @torch.inference_mode()
    def generate(self, request: MelRequest) -> Mel:
        """Generate the mel of one request.

        Raises:
            InvalidInput: an input is out of range or the shapes do not fit; the message names it.
        """
        config = self._config
        prompt = pairs("prompt_tokens", request.prompt_tokens, config.vocab_size, MAX_GROUPS)
        target = pairs("tokens", request.tokens, config.vocab_size, MAX_GROUPS)
        steps, guidance = solver_settings(request.steps, request.guidance, config)
        prompt_frames = len(prompt) * config.encoder.up_stride
        frames = prompt_frames + len(target) * config.encoder.up_stride
        prompt_mel = self._aligned_prompt(request.prompt_mel, prompt_frames)
        speaker = self._speaker(request.speaker_embedding)
        noise = self._noise(request, frames)

        started = time.perf_counter()
        condition = np.zeros((frames, config.mel_channels), dtype=np.float32)
        condition[:prompt_frames] = prompt_mel
        context = self._runtime.context(
            torch.from_numpy(np.concatenate([prompt, target]))[None],
            torch.tensor([len(prompt) + len(target)]),
            speaker,
            torch.from_numpy(condition)[None],
        )
        encoded = time.perf_counter()
        state = torch.from_numpy(noise)[None].to(context.device)
        lengths = torch.tensor([frames], device=context.device)
        mel = solve(self._runtime, state, context, lengths, steps, guidance)[0, prompt_frames:]
        array: NDArray[np.float32] = mel.T.contiguous().cpu().numpy()
        solved = time.perf_counter()
        return Mel(array, ((encoded - started) * 1e3, (solved - encoded) * 1e3))

    def _aligned_prompt(self, mel: NDArray[np.float32], wanted: int) -> NDArray[np.float32]:
        """Stretch or squeeze the prompt's mel to the length of its tokens: [wanted, mel]."""
        channels, limit = self._config.mel_channels, MAX_GROUPS * self.frames_per_group
        if mel.ndim != 2 or mel.shape[0] != channels or not 1 <= mel.shape[1] <= limit:
            raise InvalidInput("prompt_mel", f"must have shape [{channels}, 1 … {limit}], has {list(mel.shape)}")
        return mel.T[nearest_frames(mel.shape[1], wanted)]

    def _speaker(self, embedding: NDArray[np.float32]) -> torch.Tensor:
        """Round through bfloat16, as Step-Audio-EditX does before its float32 flow."""
        size = self._config.speaker_size
        if embedding.shape != (size,):
            raise InvalidInput("speaker_embedding", f"must have shape [{size}], has {list(embedding.shape)}")
        return torch.from_numpy(embedding)[None].to(torch.bfloat16).to(torch.float32)

    def _noise(self, request: MelRequest, frames: int) -> NDArray[np.float32]:
        """Return the state at time 0, [frames, mel].

        Seeded noise is addressed frame by frame from the start of the prompt, so a later part can be made alone.
        """
        channels = self._config.mel_channels
        given = request.initial_noise
        if given is None:
            return gaussian(request.seed, "flow", 0, frames * channels).reshape(frames, channels)
        if given.shape != (channels, frames):
            raise InvalidInput("initial_noise", f"must have shape {[channels, frames]}, has {list(given.shape)}")
        return np.ascontiguousarray(given.T)
