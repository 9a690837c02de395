"""From a request to an answer: plan it, take it on, have it made, set the tempo, encode, count."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from numpy.typing import NDArray

from client.errors import SpeechError
from client.load.playback import Playback
from client.speech import (
    Clip,
    SpeechResult,
    total,
)
from gateway.activity import Activity
from gateway.audio import OUTPUT_RATE, resample
from gateway.backend import Backend
from gateway.chunked import Writer
from gateway.encoding import StreamEncoder, encode
from gateway.errors import TimedOut, Unavailable, VariantUnavailable, from_backend
from gateway.making import Maker
from gateway.metrics import Metrics
from gateway.permits import Permits
from gateway.plan import Plan, make_plan
from gateway.recordings import Recordings
from gateway.schemas import SpeechRequest
from gateway.settings import Settings
from gateway.streaming import ByteStream
from gateway.stretch import Tempo, stretch
from gateway.transcription import TranscriptionService
from gateway.voices import VoiceLibrary

_NO_SOUND = Clip(np.zeros(0, np.float32), OUTPUT_RATE)

T = TypeVar("T")
Body = TypeVar("Body", bytes, ByteStream)


@dataclass
class Spoken(Generic[Body]):
    """An answer.

    Attributes:
        variant: the weights that speak, `None` where no model is needed.
        body: the whole file, or its bytes as they are made.
        result: counts and times; of a stream, once it has ended.
        cache_hit: whether the recording's voice was known, `None` where that is not known (yet).
    """

    plan: Plan
    variant: str | None
    body: Body
    result: SpeechResult | None = None
    cache_hit: bool | None = None


class SpeechService:
    """Serves requests one by one, many at once; owns the threads that stretch and encode."""

    def __init__(
        self,
        backend: Backend,
        voices: VoiceLibrary,
        recordings: Recordings,
        settings: Settings,
        metrics: Metrics,
        activity: Activity,
        transcription: TranscriptionService,
    ):
        self._backend = backend
        self._transcription = transcription
        self._activity = activity
        self._voices = voices
        self._maker = Maker(backend, recordings, settings, transcription)
        self._settings = settings
        self._metrics = metrics
        self._workers = CapacityLimiter(os.cpu_count() or 1)
        self._permits = Permits(settings.max_concurrent, settings.max_waiting)
        metrics.watch("active_requests", "Speech requests worked on.", lambda: self._permits.active)
        metrics.watch("waiting_requests", "Speech requests waiting for their turn.", lambda: self._permits.waiting)

    async def speak(
        self, request: SpeechRequest, upload: bytes | None = None, rate: int = OUTPUT_RATE
    ) -> Spoken[bytes]:
        """Serve one request with a whole file.

        Args:
            request: the JSON part.
            upload: a clip that came beside it, for the side its mode reads.
            rate: Hz of the file.

        Raises:
            ApiError: it is refused, or failed.
        """
        plan = await self._plan(request, upload)
        started = time.perf_counter()
        async with self._taken_on(plan) as waited_ms:
            variant = await self._variant(plan)
            results = [result async for result in self._maker.make(plan, variant, streamed=False)]
            whole = np.concatenate([result.clip.waveform for result in results])
            result = replace(_with_wait(total(results), waited_ms), clip=Clip(whole, results[0].clip.sample_rate))
            generated = time.perf_counter()
            body, clip = await self._in_thread(self._finish, plan, result.clip, rate)
        result.stage_ms["write"] = (time.perf_counter() - generated) * 1000
        self._count(plan, result, clip.seconds, started, time.perf_counter())
        return Spoken(plan, variant, body, result, result.cache_hit)

    async def stream(
        self, request: SpeechRequest, upload: bytes | None = None, writer: Writer | None = None
    ) -> Spoken[ByteStream]:
        """Serve one request with audio as it is made; returns when the first is there.

        Args:
            request: the JSON part.
            upload: a clip that came beside it, for the side its mode reads.
            writer: turns speech into the body; by default into a file of the request's format.

        Raises:
            ApiError: it is refused, or failed before any audio; later failures end the stream with one.
        """
        plan = await self._plan(request, upload)
        body = ByteStream()
        spoken = Spoken(plan, None, body)
        writer = writer or StreamEncoder(plan.audio_format, OUTPUT_RATE)
        await body.start(self._stream(spoken, body, writer))
        return spoken

    async def _stream(self, spoken: Spoken[ByteStream], body: ByteStream, writer: Writer) -> None:
        plan, playback = spoken.plan, Playback()
        results: list[SpeechResult] = []
        started = time.perf_counter()
        async with self._taken_on(plan) as waited_ms:
            spoken.variant = await self._variant(plan)
            tempo = Tempo(plan.tempo, OUTPUT_RATE)
            async with aclosing(self._maker.make(plan, spoken.variant, streamed=True)) as parts:
                async for result in parts:
                    if not results:
                        spoken.cache_hit = result.cache_hit
                    for second in _seconds(result.clip):
                        body.put(await self._in_thread(lambda w: writer.write(tempo.write(w)), second))
                        playback.take(time.perf_counter(), len(second) / OUTPUT_RATE / plan.tempo)
                    results.append(replace(result, clip=_NO_SOUND))
            body.put(await self._in_thread(lambda rest: writer.write(rest) + writer.close(), tempo.close()))
        spoken.result = _with_wait(total(results), waited_ms)
        self._count(plan, spoken.result, playback.seconds, started, playback.first_at or started)
        self._metrics.stall(plan.request.options.mode, playback.stall)

    async def _plan(self, request: SpeechRequest, upload: bytes | None) -> Plan:
        recognises = await self._transcription.automatic()
        with self._activity.failures_of(request.options.mode):
            return make_plan(request, upload, self._voices, self._settings.max_input_chars, recognises=recognises)

    @asynccontextmanager
    async def _taken_on(self, plan: Plan) -> AsyncIterator[float]:
        """Hold a permit, for as long as a request may last; gives the milliseconds that it was waited for."""
        seconds, options, asked = self._settings.request_timeout_seconds, plan.request.options, time.perf_counter()
        self._activity.say(
            f"{options.mode} begins: variant {options.model_variant or 'default'}, intensity {options.intensity:g}"
        )
        with self._activity.failures_of(options.mode):
            try:
                async with asyncio.timeout(seconds), self._permits.one():
                    yield 1000 * (time.perf_counter() - asked)
            except TimeoutError:
                raise TimedOut(f"the speech was not ready within {seconds:g} s") from None

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await to_thread.run_sync(work, *arguments, limiter=self._workers)

    async def _variant(self, plan: Plan) -> str | None:
        """Return which weights shall speak."""
        if not plan.passes:
            return None
        try:
            loaded = await self._backend.variants()
        except SpeechError as error:
            raise from_backend(error, {}) from error
        if not loaded:
            raise Unavailable("no speech model is loaded (step_audio_editx_base, _bnb or _awq)", retry_after=5)
        wanted = plan.request.options.model_variant
        if wanted is None:
            return "bnb" if "bnb" in loaded else loaded[0]
        if wanted not in loaded:
            raise VariantUnavailable(
                f"step_audio.model_variant: {wanted} is not loaded; loaded: {', '.join(loaded)}",
                param="step_audio.model_variant",
            )
        return wanted

    def _count(self, plan: Plan, result: SpeechResult, seconds: float, started: float, first: float) -> None:
        spent = time.perf_counter() - started
        cached = "" if result.cache_hit is None else f", Cache {'HIT' if result.cache_hit else 'MISS'}"
        self._activity.say(f"{plan.request.options.mode} done: {seconds:.2f} s of speech in {spent:.2f} s{cached}")
        self._metrics.speech(plan.request.options.mode, spent, seconds, first - started, result.stage_ms)

    def _finish(self, plan: Plan, clip: Clip, rate: int) -> tuple[bytes, Clip]:
        speech = stretch(clip, plan.tempo)
        return encode(resample(speech, rate), plan.audio_format), speech


def _with_wait(result: SpeechResult, waited_ms: float) -> SpeechResult:
    return replace(result, stage_ms={"queue": waited_ms, **result.stage_ms})


def _seconds(clip: Clip) -> Iterator[NDArray[np.float32]]:
    """Give `clip` second by second, so that a long one leaves as it is encoded."""
    for start in range(0, len(clip.waveform), clip.sample_rate):
        yield clip.waveform[start : start + clip.sample_rate]
