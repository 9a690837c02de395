"""One thread that owns the flow: whole utterances, and the chunks of many streams together."""

import heapq
import itertools
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from python_backend.errors import RequestError, Unavailable
from python_backend.memory import give_back
from python_backend.token2wav.config import FlowConfig
from python_backend.token2wav.streaming.chunks import Chunk
from python_backend.token2wav.streaming.flow import FlowStream, StreamingFlow
from python_backend.token2wav.streaming.store import PromptCache, StreamStore, prompt_key
from python_backend.token2wav.token2mel import Mel, MelRequest, TokenToMel, solver_settings

# Somebody listens to a stream; a whole utterance can wait. It still comes first when it has waited longer than this.
WHOLE_WAITS_SECONDS = 1.0
# An opening goes behind chunks whose listeners would fall silent sooner: the first tokens take longer anyway.
OPENING_WAITS_SECONDS = 0.1
# Chunks solved at once: on GPUs more make a solve longer by as much as they save.
MOST_TOGETHER = 16
IDLE_CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class OpenStream:
    """Open a stream, and render its first chunk if there is one.

    Attributes:
        stream_id: chosen by the caller.
        voice: its prompt tokens, prompt mel and speaker embedding, the seed of what follows, steps and guidance;
            its tokens do not matter.
        chunk: the first one.
    """

    stream_id: str
    voice: MelRequest
    chunk: Chunk | None = None


@dataclass(frozen=True)
class NextChunk:
    """Render the next chunk of a stream; the last one closes it.

    Attributes:
        stream_id: of an open stream.
        chunk: the next one.
        lead: seconds until its sound is needed. What is needed first is rendered first.
    """

    stream_id: str
    chunk: Chunk
    lead: float = 0.0


@dataclass(frozen=True)
class CloseStream:
    """Free a stream; one that is not open is no error."""

    stream_id: str


Work = MelRequest | OpenStream | NextChunk | CloseStream


W = TypeVar("W", bound=Work, covariant=True)


@dataclass(order=True)
class _Job(Generic[W]):
    due: float
    number: int
    work: W = field(compare=False)
    answer: "Future[Mel]" = field(compare=False)
    setup_ms: float = field(default=0.0, compare=False)


class FlowEngine:
    """Runs the flow for all callers.

    Args:
        token2mel: for whole utterances.
        streaming: for streams; None where the runtime has none.
        config: sizes of the flow.
        streams: keeps the open ones.
        prompts: keeps the voices set up for streams.
    """

    def __init__(
        self,
        token2mel: TokenToMel,
        streaming: StreamingFlow | None,
        config: FlowConfig,
        streams: StreamStore,
        prompts: PromptCache,
    ):
        self._token2mel = token2mel
        self._streaming = streaming
        self._config = config
        self._streams = streams
        self._prompts = prompts
        self._numbers = itertools.count()
        self._waiting: list[_Job[Any]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="flow", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> "Future[Mel]":
        """Queue a piece of work. The answer of an operation that makes no sound is a mel of no frames.

        Whole utterances answer with the milliseconds of encoder and solver, operations with those of setting up the
        voice and of the chunk. Errors are those of `TokenToMel.generate`, `StreamStore` and `StreamingFlow.advance`.
        """
        answer: Future[Mel] = Future()
        self._put(_Job(_due(work), next(self._numbers), work, answer))
        return answer

    def close(self) -> None:
        """Finish what waits and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _put(self, job: _Job[Any]) -> None:
        with self._changed:
            heapq.heappush(self._waiting, job)
            self._changed.notify()

    def _run(self) -> None:
        most_open = 0
        while True:
            with self._changed:
                if not self._waiting:
                    if self._closing:
                        return
                    self._changed.wait(IDLE_CHECK_SECONDS)
                job = heapq.heappop(self._waiting) if self._waiting else None
            if job is not None:
                self._work(job)
            self._streams.close_idle()
            most_open = max(most_open, len(self._streams))
            if job is None and len(self._streams) < most_open:
                give_back()
                most_open = len(self._streams)

    def _work(self, job: _Job[Any]) -> None:
        try:
            match job.work:
                case MelRequest():
                    job.answer.set_result(self._token2mel.generate(job.work))
                case CloseStream(stream_id):
                    self._streams.close(stream_id)
                    job.answer.set_result(self._no_sound())
                case OpenStream():
                    self._open(job, job.work)
                case NextChunk():
                    self._advance(job)
        except Exception as error:
            job.answer.set_exception(error)

    def _open(self, job: _Job[Any], work: OpenStream) -> None:
        streaming, voice = self._streaming, work.voice
        if streaming is None:
            raise Unavailable("streams need the flow's torch runtime; this server runs it on onnxruntime")
        started = time.perf_counter()
        steps, guidance = solver_settings(voice.steps, voice.guidance, self._config)
        content = (voice.prompt_tokens, voice.prompt_mel, voice.speaker_embedding, steps, guidance)
        prompt = self._prompts.get(prompt_key(*content), lambda: streaming.prepare(*content))
        nbytes = streaming.stream_nbytes(prompt)
        self._streams.add(work.stream_id, nbytes, lambda: streaming.open(prompt, voice.seed))
        setup_ms = 1e3 * (time.perf_counter() - started)
        if work.chunk is None:
            job.answer.set_result(self._no_sound(setup_ms))
        else:
            # In the queue it can share a solve with chunks of other streams.
            first = NextChunk(work.stream_id, work.chunk)
            self._put(_Job(job.due, job.number, first, job.answer, setup_ms))

    def _advance(self, first: "_Job[NextChunk]") -> None:
        assert self._streaming is not None  # noqa: S101 - a stream is open
        started = time.perf_counter()
        stream = self._streams.use(first.work.stream_id)
        self._streaming.check(stream, first.work.chunk)
        together = {first.work.stream_id: (first, stream), **self._joining(first.work, stream)}
        jobs, streams = zip(*together.values(), strict=True)
        try:
            mels = self._streaming.advance(list(streams), [job.work.chunk for job in jobs])
        except Exception as error:
            for job in jobs:
                self._streams.close(job.work.stream_id)  # its state may be half a chunk further
                job.answer.set_exception(error)
            return
        spent_ms = 1e3 * (time.perf_counter() - started)
        for job, mel in zip(jobs, mels, strict=True):
            if job.work.chunk.last:
                self._streams.close(job.work.stream_id)
            job.answer.set_result(Mel(mel, (job.setup_ms, spent_ms)))

    def _joining(self, first: NextChunk, stream: FlowStream) -> "dict[str, tuple[_Job[NextChunk], FlowStream]]":
        """Take the chunks of other streams from the queue that can share a solve with `first`."""
        joining: dict[str, tuple[_Job[NextChunk], FlowStream]] = {}
        left: list[_Job[Any]] = []
        passed = {first.stream_id}  # a stream's chunks keep their order
        with self._changed:
            for job in sorted(self._waiting):
                found = None
                if isinstance(job.work, NextChunk) and job.work.stream_id not in passed:
                    passed.add(job.work.stream_id)
                    if len(joining) + 1 < MOST_TOGETHER and job.work.chunk.own_groups == first.chunk.own_groups:
                        found = self._fitting(job.work, stream)
                if found is None:
                    left.append(job)
                else:
                    joining[job.work.stream_id] = (job, found)
            self._waiting = left  # sorted, and so a heap
        return joining

    def _fitting(self, work: NextChunk, stream: FlowStream) -> FlowStream | None:
        """Return the stream of `work` if its chunk can share a solve; what is wrong is answered in its own turn."""
        assert self._streaming is not None  # noqa: S101 - a stream is open
        try:
            other = self._streams.use(work.stream_id)
            self._streaming.check(other, work.chunk)
        except RequestError:
            return None
        return other if other.conditions.solves_with(stream.conditions) else None

    def _no_sound(self, setup_ms: float = 0.0) -> Mel:
        return Mel(np.empty((self._config.mel_channels, 0), dtype=np.float32), (setup_ms, 0.0))


def _due(work: Work) -> float:
    match work:
        case CloseStream():
            return 0.0  # at once: what waits for the stream is then refused, not computed
        case MelRequest():
            return time.monotonic() + WHOLE_WAITS_SECONDS
        case OpenStream():
            return time.monotonic() + OPENING_WAITS_SECONDS
        case NextChunk(lead=lead):
            return time.monotonic() + min(max(lead, 0.0), WHOLE_WAITS_SECONDS)
