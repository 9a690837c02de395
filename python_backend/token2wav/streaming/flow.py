"""Tokens to mel in chunks: a prompt set up once for a voice, and streams that go on from it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from python_backend.errors import InvalidInput
from python_backend.token2wav.config import FlowConfig
from python_backend.token2wav.flow import Flow
from python_backend.token2wav.solver import time_grid
from python_backend.token2wav.streaming.chunks import CHUNK_GROUPS, Chunk
from python_backend.token2wav.streaming.encoder import EncoderState, encode_chunk
from python_backend.token2wav.streaming.estimator import EstimatorState, solve_chunk
from python_backend.token2wav.streaming.noise import FrameNoise, SeededNoise
from python_backend.token2wav.token2mel import MAX_GROUPS
from python_backend.token2wav.tokens import PAIRS_PER_GROUP, nearest_frames, pairs

PROMPT_SEED = 0  # the prompt's noise belongs to the voice; a request's seed is for what it generates


@dataclass(frozen=True)
class Limits:
    """How much a stream may remember; the whole prompt always stays.

    Attributes:
        estimator_context: mel frames after the prompt, as the flow was trained (1.92 s).
        encoder_context: token pairs after the prompt.
        chunk_groups: the most groups in one chunk, look-ahead not counted.
    """

    estimator_context: int = 96
    encoder_context: int = 250
    chunk_groups: int = CHUNK_GROUPS[-1]


@dataclass(frozen=True)
class Conditions:
    """What stays the same through a prompt and the streams after it.

    Attributes:
        frames: mel frames of the prompt.
        speaker: float32 [1, mel], projected.
        times: float32 [steps + 1].
        modulation: float32 [steps, vectors, C].
        guidance: of the solver.
    """

    frames: int
    speaker: torch.Tensor
    times: torch.Tensor
    modulation: torch.Tensor
    guidance: float

    def solves_with(self, other: "Conditions") -> bool:
        """Tell whether chunks of both may share a solve."""
        return len(self.times) == len(other.times) and self.guidance == other.guidance


@dataclass
class Prompt:
    """A voice set up for streams of the same solver settings. Streams copy it: it can be kept and used again.

    Attributes:
        conditions: of the voice and its streams.
        encoder: state after the prompt.
        estimator: state after the prompt.
    """

    conditions: Conditions
    encoder: EncoderState
    estimator: EstimatorState

    @property
    def nbytes(self) -> int:
        """Bytes taken by the states."""
        return self.encoder.nbytes + self.estimator.nbytes


class FlowStream:
    """One utterance under way. `StreamingFlow.advance` moves it on; `close` frees it."""

    def __init__(self, prompt: Prompt, noise: FrameNoise, limits: Limits, stride: int):
        chunk = PAIRS_PER_GROUP * limits.chunk_groups
        self.conditions = prompt.conditions
        self.noise = noise
        self.limits = limits
        self.position = prompt.conditions.frames  # mel frames made so far, the prompt's included
        self.encoder: EncoderState | None = prompt.encoder.fork(limits.encoder_context, chunk)
        self.estimator: EstimatorState | None = prompt.estimator.fork(limits.estimator_context, stride * chunk)

    def close(self) -> None:
        """Free the state; more chunks are refused."""
        self.encoder = self.estimator = None

    @staticmethod
    def nbytes_after(prompt: Prompt, limits: Limits, stride: int) -> int:
        """Return the bytes that a stream after `prompt` takes."""
        chunk = PAIRS_PER_GROUP * limits.chunk_groups
        encoder = prompt.encoder.forked_nbytes(limits.encoder_context, chunk)
        return encoder + prompt.estimator.forked_nbytes(limits.estimator_context, stride * chunk)

    @property
    def nbytes(self) -> int:
        """Bytes taken by the state: the same from the first chunk to the last, 0 when closed."""
        return sum(state.nbytes for state in (self.encoder, self.estimator) if state is not None)


class StreamingFlow:
    """Sets up prompts and moves streams on. Not for two threads at once.

    Args:
        flow: with weights.
        config: its sizes.
    """

    def __init__(self, flow: Flow, config: FlowConfig):
        self._flow = flow
        self._config = config
        self._stride = config.encoder.up_stride
        self._device = flow.encoder_proj.weight.device

    @torch.inference_mode()
    def prepare(
        self,
        prompt_tokens: NDArray[np.int32],
        prompt_mel: NDArray[np.float32],
        speaker_embedding: NDArray[np.float32],
        steps: int,
        guidance: float,
        lookahead: NDArray[np.int32] | None = None,
        noise: FrameNoise | None = None,
    ) -> Prompt:
        """Run the prompt through encoder and solver.

        Args:
            prompt_tokens: int32 [5p].
            prompt_mel: float32 [mel, T], any T.
            speaker_embedding: float32 [speaker_size], raw.
            steps: Euler steps.
            guidance: of the solver.
            lookahead: int32 [5], what follows the prompt; None for the prompt's own first group, so that nothing but
                the voice matters. Step-Audio-EditX takes the first generated group.
            noise: None for noise of a fixed seed.

        Raises:
            InvalidInput: tokens are broken or the shapes do not fit.
        """
        config, flow = self._config, self._flow
        prompt = pairs("prompt_tokens", prompt_tokens, config.vocab_size, MAX_GROUPS)
        following = prompt[:PAIRS_PER_GROUP]
        if lookahead is not None:
            following = pairs("tokens", lookahead, config.vocab_size, 1)
        frames = len(prompt) * self._stride
        condition = self._aligned(prompt_mel, frames)
        speaker = flow.speaker(self._rounded(speaker_embedding))
        times = time_grid(steps)
        modulation = flow.decoder.estimator.modulation(times[:-1].to(self._device))
        rows = 2 if guidance else 1
        result = Prompt(
            Conditions(frames, speaker, times, modulation, guidance),
            EncoderState.empty(flow.encoder, len(prompt), 0, 0),
            EstimatorState.empty(flow.decoder.estimator, steps, rows, frames, 0, 0),
        )
        mu = self._encode(result.encoder, np.concatenate([prompt, following]), last=False)
        context = flow.decoder.estimator.context(mu, speaker, condition)
        initial = (noise or SeededNoise(PROMPT_SEED, config.mel_channels))(0, frames)
        state = torch.from_numpy(initial)[None].to(self._device)
        solve_chunk(flow.decoder.estimator, [result.estimator], state, context, times, modulation, guidance)
        return result

    @torch.inference_mode()
    def open(self, prompt: Prompt, noise: FrameNoise | int, limits: Limits | None = None) -> FlowStream:
        """Start a stream after a prompt.

        Args:
            prompt: of `prepare`.
            noise: a seed, for the noise a whole utterance of that seed has at the same frames.
            limits: of the stream's memory.
        """
        if isinstance(noise, int):
            noise = SeededNoise(noise, self._config.mel_channels)
        return FlowStream(prompt, noise, limits or Limits(), self._stride)

    def stream_nbytes(self, prompt: Prompt, limits: Limits | None = None) -> int:
        """Return the bytes that `open` will take."""
        return FlowStream.nbytes_after(prompt, limits or Limits(), self._stride)

    def push(self, stream: FlowStream, chunk: Chunk) -> NDArray[np.float32]:
        """Make the mel of one chunk, [mel, frames]; see `advance`."""
        return self.advance([stream], [chunk])[0]

    @torch.inference_mode()
    def advance(self, streams: list[FlowStream], chunks: list[Chunk]) -> list[NDArray[np.float32]]:
        """Make the mel of one chunk of each stream, in one solve.

        Args:
            streams: different ones, with the same steps and guidance. A stream is closed after its last chunk.
            chunks: one for each, giving the same number of frames.

        Returns:
            float32 [mel, frames] for each; 6 frames per group, look-ahead not counted.

        Raises:
            InvalidInput: tokens are broken, a chunk is too large or has nothing but look-ahead, or a stream is closed.
            ValueError: the streams or chunks do not go together.
        """
        first = streams[0].conditions
        if not all(stream.conditions.solves_with(first) for stream in streams):
            raise ValueError("streams of one solve must have the same steps and guidance")
        if len({chunk.own_groups for chunk in chunks}) != 1:
            raise ValueError("chunks of one solve must give the same number of frames")
        inputs = [self.check(stream, chunk) for stream, chunk in zip(streams, chunks, strict=True)]

        estimator = self._flow.decoder.estimator
        contexts, noises, states = [], [], []
        for stream, (encoder, state, chunk_pairs), chunk in zip(streams, inputs, chunks, strict=True):
            mu = self._encode(encoder, chunk_pairs, chunk.last)
            contexts.append(estimator.context(mu, stream.conditions.speaker, torch.zeros_like(mu)))
            noises.append(torch.from_numpy(stream.noise(stream.position, mu.shape[1])))
            states.append(state)
        mel = solve_chunk(
            estimator,
            states,
            torch.stack(noises).to(self._device),
            torch.cat(contexts),
            first.times,
            first.modulation,
            first.guidance,
        )
        for stream, chunk in zip(streams, chunks, strict=True):
            stream.position += mel.shape[1]
            if chunk.last:
                stream.close()
        return [np.ascontiguousarray(one.T) for one in mel.cpu().numpy()]

    def check(self, stream: FlowStream, chunk: Chunk) -> tuple[EncoderState, EstimatorState, NDArray[np.int64]]:
        """Return the stream's states and the chunk's token pairs, int64 [n, 2].

        Raises:
            InvalidInput: as `advance`.
        """
        if stream.encoder is None or stream.estimator is None:
            raise InvalidInput("tokens", "come after the stream's end")
        ahead = 0 if chunk.last else 1
        chunk_pairs = pairs("tokens", chunk.tokens, self._config.vocab_size, stream.limits.chunk_groups + ahead)
        if len(chunk_pairs) <= ahead * PAIRS_PER_GROUP:
            raise InvalidInput("tokens", "hold nothing but the look-ahead group")
        return stream.encoder, stream.estimator, chunk_pairs

    def _encode(self, state: EncoderState, chunk_pairs: NDArray[np.int64], last: bool) -> torch.Tensor:
        flow = self._flow
        embedded = flow.input_embedding(torch.from_numpy(chunk_pairs)[None].to(self._device))
        mu: torch.Tensor = flow.encoder_proj(encode_chunk(flow.encoder, state, embedded, last))
        return mu

    def _aligned(self, mel: NDArray[np.float32], frames: int) -> torch.Tensor:
        channels = self._config.mel_channels
        if mel.ndim != 2 or mel.shape[0] != channels or not mel.shape[1]:
            raise InvalidInput("prompt_mel", f"must have shape [{channels}, 1 …], has {list(mel.shape)}")
        return torch.from_numpy(mel.T[nearest_frames(mel.shape[1], frames)])[None].to(self._device)

    def _rounded(self, embedding: NDArray[np.float32]) -> torch.Tensor:
        """Round through bfloat16, as for whole utterances."""
        size = self._config.speaker_size
        if embedding.shape != (size,):
            raise InvalidInput("speaker_embedding", f"must have shape [{size}], has {list(embedding.shape)}")
        return torch.from_numpy(embedding)[None].to(torch.bfloat16).to(torch.float32).to(self._device)
