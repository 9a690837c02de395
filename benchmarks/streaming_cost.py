"""What streaming costs flow and vocoder, on one thread and without Triton: CPU time and memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.direct import Token2Wav
from python_backend.noise import gaussian
from python_backend.token2wav.streaming.chunks import Chunker
from python_backend.token2wav.streaming.flow import Prompt
from python_backend.token2wav.streaming.vocoder import SAMPLES_PER_FRAME, Floats, VocoderStream
from python_backend.token2wav.token2mel import DEFAULT_STEPS, MelRequest

VOICE_GROUPS = 40  # 4.8 s
SEED = 1

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """Flow and vocoder together.

    Attributes:
        whole_seconds: CPU time of a whole utterance, the least of several.
        streamed_seconds: of the same in chunks, with the voice set up before.
        flow_bytes: state of a stream in the flow.
        vocoder_bytes: the most its vocoder held.
        voice_bytes: of the voice set up, kept once for all its streams.
    """

    whole_seconds: float
    streamed_seconds: float
    flow_bytes: int
    vocoder_bytes: int
    voice_bytes: int

    @property
    def ratio(self) -> float:
        """CPU time streamed over whole."""
        return self.streamed_seconds / self.whole_seconds


def measure(token2wav: Token2Wav, groups: int, runs: int) -> Cost:
    """Make the sound of `groups` groups of random tokens, whole and streamed in turn, `runs` times each.

    Set torch to one thread before.

    Raises:
        RuntimeError: the two differ in length, or a stream's state changed its size.
    """
    voice = _random_request(token2wav, VOICE_GROUPS, groups)
    content = (voice.prompt_tokens, voice.prompt_mel, voice.speaker_embedding)
    prompt = token2wav.streaming.prepare(*content, DEFAULT_STEPS, token2wav.config.guidance)
    whole, streamed = [], []
    flow_bytes = vocoder_bytes = 0
    for _ in range(runs + 1):
        seconds, waveform = _timed(lambda: _whole(token2wav, voice))
        whole.append(seconds)
        seconds, (parts, flow_bytes, vocoder_bytes) = _timed(lambda: _streamed(token2wav, prompt, voice))
        streamed.append(seconds)
        if sum(map(len, parts)) != len(waveform):
            raise RuntimeError("the stream is not as long as the whole")
    return Cost(min(whole[1:]), min(streamed[1:]), flow_bytes, vocoder_bytes, prompt.nbytes)


def _whole(token2wav: Token2Wav, request: MelRequest) -> Floats:
    mel = token2wav.whole.generate(request).mel
    frames = mel.shape[1]
    noise = gaussian(request.seed, "hift", 0, SAMPLES_PER_FRAME * frames)
    nothing, none = np.zeros(1, np.float32), np.zeros(1, np.int32)
    return token2wav.vocoder(mel, np.array([frames], np.int32), noise, nothing, none)[0]


def _streamed(token2wav: Token2Wav, prompt: Prompt, request: MelRequest) -> tuple[list[Floats], int, int]:
    stream = token2wav.streaming.open(prompt, request.seed)
    vocoder = VocoderStream(token2wav.vocoder, request.seed)
    flow_bytes, vocoder_bytes, parts = stream.nbytes, 0, []
    for chunk in Chunker().push(request.tokens, last=True):
        parts.append(vocoder.push(token2wav.streaming.push(stream, chunk), chunk.last))
        vocoder_bytes = max(vocoder_bytes, vocoder.nbytes)
        if stream.nbytes != (0 if chunk.last else flow_bytes):
            raise RuntimeError("a stream's state changed its size")
    return parts, flow_bytes, vocoder_bytes


def _random_request(token2wav: Token2Wav, voice_groups: int, groups: int) -> MelRequest:
    config, chosen = token2wav.config, np.random.default_rng(SEED)

    def tokens(count: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        drawn = np.concatenate([chosen.integers(0, 1024, (count, 2)), chosen.integers(1024, 5120, (count, 3))], axis=1)
        return drawn.reshape(-1).astype(np.int32)

    mel = chosen.normal(-3, 1, (config.mel_channels, 6 * voice_groups)).astype(np.float32)
    speaker = chosen.normal(size=config.speaker_size).astype(np.float32)
    return MelRequest(tokens(groups), tokens(voice_groups), mel, speaker, SEED)


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result
