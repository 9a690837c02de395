"""From a request to speech: plan, read the clip, run the model, set the tempo, encode."""

import asyncio
import os
import time
from dataclasses import dataclass, replace

from anyio import CapacityLimiter, to_thread

from client.errors import SpeechError
from client.speech import Clip, SpeechJob, SpeechResult, derived_seed, run_passes, total
from gateway.audio import resample
from gateway.backend import Backend
from gateway.encoding import encode
from gateway.errors import TimedOut, Unavailable, VariantUnavailable, from_backend
from gateway.metrics import Metrics
from gateway.permits import Permits
from gateway.pieces import Piece, join, split
from gateway.plan import Plan, make_plan
from gateway.recordings import Recordings
from gateway.schemas import SpeechRequest
from gateway.settings import Settings
from gateway.stretch import stretch
from gateway.voices import VoiceLibrary

OUTPUT_RATE = 24_000


@dataclass(frozen=True)
class Spoken:
    """A finished answer.

    Attributes:
        body: the file in `plan.audio_format`.
        seconds: length of the speech.
        variant: the weights that spoke, `None` where no model was needed.
    """

    plan: Plan
    body: bytes
    seconds: float
    variant: str | None
    warnings: list[str]
    prompt_tokens: int
    generated_tokens: int
    stage_ms: dict[str, float]


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
        """Serve one request.

        Args:
            request: the JSON part.
            upload: a clip that came beside it, for the side its mode reads.

        Raises:
            ApiError: it is refused, or failed.
        """
        plan = make_plan(request, upload, self._voices, self._settings.max_input_chars)
        seconds = self._settings.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                started = time.perf_counter()
                async with self._permits.one():
                    spoken = await self._carry_out(plan)
                spent = time.perf_counter() - started
                self._metrics.speech(request.options.mode, spent, spoken.seconds, spent, spoken.stage_ms)
                return spoken
        except TimeoutError:
            raise TimedOut(f"the speech was not ready within {seconds:g} s") from None

    async def _carry_out(self, plan: Plan) -> Spoken:
        variant = await self._variant(plan) if plan.passes else None
        started = time.perf_counter()
        clip = await self._recordings.read(plan.source, self._settings.max_clip_seconds)
        read = time.perf_counter()
        if variant is None:
            result = SpeechResult(clip, "stop", 0, 0, {})
        else:
            result = await self._run(plan, clip, variant)
        generated = time.perf_counter()
        body, seconds = await to_thread.run_sync(self._finish, plan, result.clip, limiter=self._workers)
        read_ms, write_ms = (read - started) * 1000, (time.perf_counter() - generated) * 1000
        cut = ["the speech was cut where its token budget ended"] if result.finish_reason == "length" else []
        return Spoken(
            plan=plan,
            body=body,
            seconds=seconds,
            variant=variant,
            warnings=plan.warnings + cut,
            prompt_tokens=result.prompt_tokens,
            generated_tokens=result.generated_tokens,
            stage_ms={"read": read_ms, **result.stage_ms, "write": write_ms},
        )

    async def _run(self, plan: Plan, clip: Clip, variant: str) -> SpeechResult:
        job = plan.job(clip, variant)
        try:
            if job.mode == "clone":
                return await self._in_pieces(job)
            return await run_passes(self._backend.synthesize, job, plan.passes)
        except SpeechError as error:
            names = {
                "audio": plan.source.audio_param,
                "text": "input",
                "prompt_text": plan.source.transcript_param,
            }
            raise from_backend(error, names) from error

    async def _in_pieces(self, job: SpeechJob) -> SpeechResult:
        """Speak a text, a long one in pieces side by side, each with a seed of its own."""
        pieces = split(job.text, self._settings.piece_seconds)
        if len(pieces) == 1:
            return await self._backend.synthesize(job)
        seed = job.sampling.seed or 0
        turns = asyncio.Semaphore(self._settings.pieces_at_once)

        async def speak(number: int, piece: Piece) -> SpeechResult:
            own = replace(job.sampling, seed=derived_seed(seed, number) if number else seed)
            async with turns:
                return await self._backend.synthesize(replace(job, text=piece.text, sampling=own))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(speak(number, piece)) for number, piece in enumerate(pieces)]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        results = [task.result() for task in tasks]
        return replace(total(results), clip=join([result.clip for result in results], pieces))

    async def _variant(self, plan: Plan) -> str:
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

    @staticmethod
    def _finish(plan: Plan, clip: Clip) -> tuple[bytes, float]:
        speech = stretch(resample(clip, OUTPUT_RATE), plan.tempo)
        return encode(speech, plan.audio_format), speech.seconds
