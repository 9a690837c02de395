"""From a request to speech: plan, read the clip, run the model, set the tempo, encode."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
from anyio import CapacityLimiter, to_thread

from client.errors import SpeechError
from client.speech import MODES_WITHOUT_TRANSCRIPT, Clip, SpeechJob, SpeechResult, derived_seed, run_passes, total
from gateway.audio import resample
from gateway.backend import Backend
from gateway.cuts import cut
from gateway.encoding import StreamEncoder, encode
from gateway.errors import TimedOut, Unavailable, VariantUnavailable, from_backend
from gateway.metrics import Metrics
from gateway.permits import Permits
from gateway.pieces import split, with_pause
from gateway.plan import Plan, make_plan
from gateway.recordings import Recordings
from gateway.schemas import SpeechRequest
from gateway.settings import Settings
from gateway.streaming import ByteStream
from gateway.stretch import stretch
from gateway.voices import VoiceLibrary

OUTPUT_RATE = 24_000
_LONGEST_CUT_SECONDS = 30.0  # what Step-Audio-EditX's authors advise for one pass


@dataclass
class Spoken:
    """An answer.

    Attributes:
        variant: the weights that speak, `None` where no model is needed.
        body: the whole file, or its bytes as they are made.
        result: counts and times; of a stream, once it has ended.
    """

    plan: Plan
    variant: str | None
    body: bytes | ByteStream
    result: SpeechResult | None = None


class SpeechService:
    """Serves requests one by one, many at once; owns the threads that stretch and encode."""

    def __init__(
        self, backend: Backend, voices: VoiceLibrary, recordings: Recordings, settings: Settings, metrics: Metrics
    ):
        self._backend = backend
        self._voices = voices
        self._recordings = recordings
        self._settings = settings
        self._metrics = metrics
        self._workers = CapacityLimiter(os.cpu_count() or 1)
        self._permits = Permits(settings.max_concurrent, settings.max_waiting)
        metrics.watch("active_requests", "Speech requests worked on.", lambda: self._permits.active)
        metrics.watch("waiting_requests", "Speech requests waiting for their turn.", lambda: self._permits.waiting)

    async def speak(self, request: SpeechRequest, upload: bytes | None = None) -> Spoken:
        """Serve one request with a whole file.

        Args:
            request: the JSON part.
            upload: a clip that came beside it, for the side its mode reads.

        Raises:
            ApiError: it is refused, or failed.
        """
        plan = make_plan(request, upload, self._voices, self._settings.max_input_chars)
        started = time.perf_counter()
        async with self._taken_on():
            variant = await self._variant(plan)
            results = [result async for result in self._results(plan, variant)]
            whole = np.concatenate([result.clip.waveform for result in results])
            result = replace(total(results), clip=Clip(whole, results[0].clip.sample_rate))
            generated = time.perf_counter()
            body, clip = await to_thread.run_sync(self._finish, plan, result.clip, limiter=self._workers)
        result.stage_ms["write"] = (time.perf_counter() - generated) * 1000
        self._count(plan, result, clip.seconds, started, time.perf_counter())
        return Spoken(plan, variant, body, result)

    async def stream(self, request: SpeechRequest, upload: bytes | None = None) -> Spoken:
        """Serve one request with audio as it is made; returns when the first is there.

        Args:
            request: the JSON part.
            upload: a clip that came beside it, for the side its mode reads.

        Raises:
            ApiError: it is refused, or failed before any audio; later failures end the stream with one.
        """
        plan = make_plan(request, upload, self._voices, self._settings.max_input_chars)
        body = ByteStream()
        spoken = Spoken(plan, None, body)
        await body.start(self._stream(spoken, body))
        return spoken

    async def _stream(self, spoken: Spoken, body: ByteStream) -> None:
        plan, seconds = spoken.plan, 0.0
        results: list[SpeechResult] = []
        started = first = time.perf_counter()
        async with self._taken_on():
            spoken.variant = await self._variant(plan)
            encoder = StreamEncoder(plan.audio_format, OUTPUT_RATE)
            async with aclosing(self._results(plan, spoken.variant)) as parts:
                async for result in parts:
                    speech = await to_thread.run_sync(self._in_tempo, plan, result.clip, limiter=self._workers)
                    body.put(await to_thread.run_sync(encoder.write, speech.waveform, limiter=self._workers))
                    first = first if results else time.perf_counter()
                    results.append(result)
                    seconds += speech.seconds
            body.put(await to_thread.run_sync(encoder.close, limiter=self._workers))
        spoken.result = total(results)
        self._count(plan, spoken.result, seconds, started, first)

    @asynccontextmanager
    async def _taken_on(self) -> AsyncIterator[None]:
        """Hold a permit, for as long as a request may last."""
        seconds = self._settings.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds), self._permits.one():
                yield
        except TimeoutError:
            raise TimedOut(f"the speech was not ready within {seconds:g} s") from None

    async def _results(self, plan: Plan, variant: str | None) -> AsyncGenerator[SpeechResult, None]:
        """Give the speech in its parts: several for a long text, one for everything else."""
        started = time.perf_counter()
        clip = await self._recordings.read(plan.source, self._settings.max_clip_seconds)
        read_ms = {"read": (time.perf_counter() - started) * 1000}
        if variant is None:
            yield SpeechResult(clip, "stop", 0, 0, read_ms)
            return
        parts = self._parts(plan.job(clip, variant))
        try:
            async with aclosing(self._in_order(plan, parts)) as results:
                async for result in results:
                    yield replace(result, stage_ms=read_ms | result.stage_ms)
                    read_ms = {}
        except SpeechError as error:
            params = {"audio": plan.source.audio_param, "text": "input", "prompt_text": plan.source.transcript_param}
            raise from_backend(error, params) from error

    def _parts(self, job: SpeechJob) -> list[tuple[SpeechJob, float]]:
        """Return the jobs that a long text or recording is done in, each with the pause that follows, in seconds.

        A recording whose words matter stays whole: nobody knows which of them lie where.
        """
        if job.mode == "clone":
            pieces = split(job.text, self._settings.piece_seconds)
            return [(replace(job, text=piece.text), piece.pause) for piece in pieces]
        if job.mode in MODES_WITHOUT_TRANSCRIPT:
            return [(replace(job, clip=clip), 0.0) for clip in cut(job.clip, _LONGEST_CUT_SECONDS)]
        return [(job, 0.0)]

    async def _in_order(self, plan: Plan, parts: list[tuple[SpeechJob, float]]) -> AsyncGenerator[SpeechResult, None]:
        """Do `parts` side by side, each with a seed of its own, and give their speech in order."""
        turns = asyncio.Semaphore(self._settings.pieces_at_once)

        async def speak(number: int, job: SpeechJob) -> SpeechResult:
            if number:
                seed = derived_seed(job.sampling.seed or 0, number)
                job = replace(job, sampling=replace(job.sampling, seed=seed))
            async with turns:
                return await self._one(plan, job)

        tasks = [asyncio.create_task(speak(number, job)) for number, (job, _) in enumerate(parts)]
        try:
            for task, (_, pause) in zip(tasks, parts, strict=True):
                result = await task
                yield replace(result, clip=with_pause(result.clip, pause))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, plan: Plan, job: SpeechJob) -> SpeechResult:
        """Run one job with its further passes, or with the edit that gives a clone its manner."""
        result = await run_passes(self._backend.synthesize, job, plan.passes)
        manner = plan.manner_job(job, result.clip)
        return result if manner is None else total([result, await self._backend.synthesize(manner)])

    async def _variant(self, plan: Plan) -> str | None:
        """Return which weights shall speak."""
        if not plan.passes:
            return None
        try:
            loaded = await self._backend.variants()
        except SpeechError as error:
            raise from_backend(error, {}) from error
        if not loaded:
            raise Unavailable("the speech models are still loading", retry_after=5)
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
        self._metrics.speech(plan.request.options.mode, spent, seconds, first - started, result.stage_ms)

    @staticmethod
    def _in_tempo(plan: Plan, clip: Clip) -> Clip:
        return stretch(resample(clip, OUTPUT_RATE), plan.tempo)

    def _finish(self, plan: Plan, clip: Clip) -> tuple[bytes, Clip]:
        speech = self._in_tempo(plan, clip)
        return encode(speech, plan.audio_format), speech
