"""One streamed request: tokens come in while sound goes out."""

import queue
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from python_backend.errors import Cancelled, RequestError, Unavailable
from python_backend.token2wav.streaming.chunks import Chunk, Chunker, Pacing
from python_backend.token2wav.streaming.vocoder import VocoderStream
from python_backend.token2wav.tokens import GROUP

SAMPLE_RATE = 24_000

Tensors = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float32]
Start = Callable[[Callable[[], None]], Any]


class Stages(Protocol):
    """The models behind one request; tensors are named as in docs/architecture.md."""

    def voice(self) -> Tensors:
        """Encode the request's clip."""

    def speak(self, prompt_tokens: NDArray[np.int32], cancel_id: str) -> Iterator[Tensors]:
        """Generate; the last answer holds `finish_reason`."""

    def cancel(self, cancel_id: str) -> None:
        """Stop generating."""

    def open(self, stream_id: str, voice: Tensors) -> float:
        """Open a stream of the flow and return the milliseconds it took there."""

    def chunk(self, stream_id: str, chunk: Chunk, lead: float) -> tuple[Floats, float]:
        """Return the chunk's mel and the milliseconds it took there; the last one closes the stream.

        Args:
            stream_id: of `open`.
            chunk: the next one.
            lead: seconds until the listener has heard all that was sent.
        """

    def close(self, stream_id: str) -> None:
        """Free a stream of the flow."""

    def vocode(
        self,
        mel: Floats,
        mel_length: NDArray[np.int32],
        noise: Floats,
        cached_source: Floats,
        cached_source_length: NDArray[np.int32],
    ) -> tuple[Floats, Floats]:
        """See `streaming.vocoder.Vocoder`."""


class Session:
    """Runs one request through its stages. `cancel` may come from any thread.

    Args:
        stages: of this request.
        seed: of the flow's and the vocoder's noise.
        start: runs a function beside this one.
        streams: how many sessions run at the moment.
        idle_seconds: the longest wait for the next tokens.
    """

    def __init__(self, stages: Stages, seed: int, start: Start, streams: Callable[[], int], idle_seconds: float):
        self._stages = stages
        self._start = start
        self._streams = streams
        self._idle_seconds = idle_seconds
        self._id = uuid.uuid4().hex
        self._answers: queue.SimpleQueue[Tensors | BaseException] = queue.SimpleQueue()
        self._seed = seed
        self._cancelled = False
        self._speaking = self._flow_open = False
        self._voice: Tensors = {}
        self._end: Tensors = {}
        self._flow_ms = [0.0, 0.0]
        self._vocoder_ms = 0.0

    def waveforms(self) -> Iterator[Floats]:
        """Yield the sound as it is made, [samples] at 24 kHz, never empty.

        Raises:
            RequestError: a stage refused or failed, the session was cancelled, or no token came for too long.
        """
        voice = self._voice = self._stages.voice()
        self._check()
        self._speaking = True
        self._start(lambda: self._speak(voice["prompt_tokens"]))
        self._flow_open = True
        self._flow_ms[0] = self._stages.open(self._id, voice)
        chunker, pacing, vocoder = Chunker(), Pacing(), VocoderStream(self._vocode, self._seed)
        while not self._end:
            tokens, last = self._tokens()
            chunker.add(tokens, last)
            pacing.came(len(tokens) / GROUP)
            while (chunk := chunker.take(pacing.groups(chunker.waiting, self._streams()))) is not None:
                self._check()
                started = time.perf_counter()
                waveform = vocoder.push(self._mel(chunk, pacing.lead), chunk.last)
                pacing.rendered(chunk.own_groups, time.perf_counter() - started, waveform.size / SAMPLE_RATE)
                if waveform.size:
                    yield waveform
        if self._flow_open:
            raise RequestError("the language model ended without a token")

    @property
    def cache_hit(self) -> NDArray[np.bool_]:
        """Whether the voice was known, bool [1]; there from the first sound on."""
        return self._voice["cache_hit"]

    @property
    def account(self) -> dict[str, NDArray[Any]]:
        """What the last response says: how it ended and what it took."""
        return {
            "finish_reason": self._end["finish_reason"],
            "usage": self._end["usage"],
            "voice_ms": self._voice["stage_ms"],
            "llm_ms": self._end["stage_ms"],
            "flow_ms": np.array(self._flow_ms, dtype=np.float32),
            "vocoder_ms": np.array([self._vocoder_ms], dtype=np.float32),
            "kept_voice_key": self._voice["voice_key"],
            "cache_hit": self.cache_hit,
        }

    def cancel(self) -> None:
        """End the session as soon as the call it waits for is answered: nothing is computed for it any more."""
        self._cancelled = True
        self._answers.put(Cancelled("the request was cancelled"))
        self._stop_speaking()
        if self._flow_open:
            self._stages.close(self._id)

    def close(self) -> None:
        """Free what the models hold for this session."""
        self._stop_speaking()
        if self._flow_open:
            self._flow_open = False
            self._stages.close(self._id)

    def _check(self) -> None:
        if self._cancelled:
            raise Cancelled("the request was cancelled")

    def _stop_speaking(self) -> None:
        if self._speaking:
            self._speaking = False
            self._stages.cancel(self._id)

    def _speak(self, prompt_tokens: NDArray[np.int32]) -> None:
        try:
            for answer in self._stages.speak(prompt_tokens, self._id):
                self._answers.put(answer)
            self._answers.put(RequestError("the language model's stream ended early"))
        except RequestError as error:
            # It may never be fetched, and its trace would keep all of this session alive.
            self._answers.put(error.with_traceback(None))
        except BaseException as error:
            self._answers.put(error)

    def _tokens(self) -> tuple[NDArray[np.int32], bool]:
        """Wait for tokens and return all that are there: int32 [n], and whether they are the last."""
        found = []
        try:
            answer = self._answers.get(timeout=self._idle_seconds)
            while True:
                if isinstance(answer, BaseException):
                    raise answer
                found.append(answer["tokens"])
                if "finish_reason" in answer:
                    self._speaking = False
                    self._end = answer
                    break
                answer = self._answers.get_nowait()
        except queue.Empty:
            if not found:
                raise Unavailable(f"no speech token came for {self._idle_seconds:g} s") from None
        return np.concatenate(found), bool(self._end)

    def _mel(self, chunk: Chunk, lead: float) -> Floats:
        try:
            mel, milliseconds = self._stages.chunk(self._id, chunk, lead)
        except RequestError:
            self._check()  # a cancellation closes the flow's stream under this call
            raise
        self._flow_ms[1] += milliseconds
        self._flow_open = not chunk.last
        return mel

    def _vocode(self, *inputs: Any) -> tuple[Floats, Floats]:
        started = time.perf_counter()
        answer = self._stages.vocode(*inputs)
        self._vocoder_ms += 1e3 * (time.perf_counter() - started)
        return answer
