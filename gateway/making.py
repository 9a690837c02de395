"""From a plan to sound: the clip, its words, the model's passes over each part, in order."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from anyio import to_thread

from client.errors import SpeechError
from client.speech import Clip, SpeechJob, SpeechResult, before_last_pass, derived_seed, total
from gateway.audio import OUTPUT_RATE, resample
from gateway.backend import Backend
from gateway.cuts import cut
from gateway.errors import InvalidValue, from_backend
from gateway.long_edits import Indivisible, divide, with_own_words
from gateway.ordered import in_order
from gateway.pieces import split, with_pause
from gateway.plan import Plan, manner_job
from gateway.recordings import Recordings
from gateway.settings import Settings
from gateway.transcription import TranscriptionService

_STREAMED_AT_ONCE = 2  # the piece that is heard and the next one

Jobs = list[tuple[SpeechJob, float]]
"""What is done for one request, in order, each with the seconds of pause that follow."""
LastPass = Callable[[SpeechJob], AsyncGenerator[SpeechResult, None]]


class Maker:
    """Makes the speech of one plan after another, many at once."""

    def __init__(
        self, backend: Backend, recordings: Recordings, settings: Settings, transcription: TranscriptionService
    ):
        self._backend = backend
        self._recordings = recordings
        self._settings = settings
        self._transcription = transcription

    async def make(self, plan: Plan, variant: str | None, *, streamed: bool) -> AsyncGenerator[SpeechResult, None]:
        """Give the speech in its parts, in order; the clip itself where no `variant` of the model is needed.

        Raises:
            ApiError: it is refused, or failed.
        """
        started = time.perf_counter()
        cloned = plan.request.options.mode == "clone"
        clip = await self._recordings.read(
            plan.source, self._settings.max_clip_seconds if cloned else self._settings.max_edit_seconds
        )
        spent_ms = {"read": (time.perf_counter() - started) * 1000}
        if variant is None:
            yield SpeechResult(await to_thread.run_sync(resample, clip, OUTPUT_RATE), "stop", 0, 0, spent_ms)
            return
        jobs = await self._jobs(plan, clip, variant)
        if plan.needs_words:
            spent_ms["recognize"] = (time.perf_counter() - started) * 1000 - spent_ms["read"]
        last_pass = self._backend.stream if streamed else self._in_one_part
        pieces = [self._piece(plan, _with_own_seed(job, n), pause, last_pass) for n, (job, pause) in enumerate(jobs)]
        at_once = min(self._settings.pieces_at_once, _STREAMED_AT_ONCE if streamed else len(pieces))
        try:
            async with aclosing(in_order(pieces, at_once, staggered=streamed)) as results:
                async for result in results:
                    if result.finish_reason:
                        result, spent_ms = replace(result, stage_ms=spent_ms | result.stage_ms), {}
                    yield result
        except SpeechError as error:
            params = {"audio": plan.source.audio_param, "text": "input", "prompt_text": plan.source.transcript_param}
            raise from_backend(error, params) from error

    async def _jobs(self, plan: Plan, clip: Clip, variant: str) -> Jobs:
        if plan.request.options.mode == "clone":
            if plan.needs_words:
                plan = plan.with_words(await self._words_of(clip, plan))
            job = plan.job(clip, variant)
            pieces = split(job.text, self._settings.piece_seconds)
            return [(replace(job, text=piece.text), piece.pause) for piece in pieces]
        try:
            return await self._edits(plan, clip, variant)
        except Indivisible as error:
            param = "input" if error.of_new_text else plan.source.transcript_param
            raise InvalidValue(f"{param}: {error}", param=param) from None

    async def _edits(self, plan: Plan, clip: Clip, variant: str) -> Jobs:
        longest = self._settings.edit_part_seconds
        if not plan.needs_words:
            jobs = await to_thread.run_sync(divide, plan.job(clip, variant), longest)
            if len(jobs) > 1 and jobs[0][0].prompt_text:
                plan.warnings.append(
                    f"the recording is edited in {len(jobs)} parts; which words are in which is estimated"
                )
            return jobs
        clips = await to_thread.run_sync(cut, clip, longest)
        words = await asyncio.gather(*(self._words_of(part, plan) for part in clips))
        return with_own_words(plan.with_words("\n".join(words)).job(clip, variant), clips, words)

    async def _words_of(self, clip: Clip, plan: Plan) -> str:
        return await self._transcription.words_of(clip, plan.source.transcript_param)

    async def _piece(
        self, plan: Plan, job: SpeechJob, pause: float, last_pass: LastPass
    ) -> AsyncGenerator[SpeechResult, None]:
        """Run one job: its passes, or the edit that gives a clone its manner; `last_pass` gives the speech."""
        last, results = await before_last_pass(self._backend.synthesize, job, plan.passes)
        if plan.manner:
            results.append(await self._backend.synthesize(last))
            last = manner_job(plan.manner, job, results[-1].clip)
        async with aclosing(last_pass(last)) as parts:
            async for part in parts:
                if part.finish_reason:
                    part = total([*results, part])
                    yield replace(part, clip=with_pause(part.clip, pause))
                else:
                    yield part

    async def _in_one_part(self, job: SpeechJob) -> AsyncGenerator[SpeechResult, None]:
        yield await self._backend.synthesize(job)


def _with_own_seed(job: SpeechJob, number: int) -> SpeechJob:
    if not number:
        return job
    return replace(job, sampling=replace(job.sampling, seed=derived_seed(job.sampling.seed or 0, number)))
