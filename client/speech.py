"""What a speech model is asked and what it answers, free of any transport."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["clone", "emotion", "style", "paralinguistic", "speed", "denoise", "vad"]

MODES_WITHOUT_TRANSCRIPT: frozenset[Mode] = frozenset({"denoise", "vad"})
MODES_WITH_EDIT_INFO: frozenset[Mode] = frozenset({"emotion", "style", "speed"})
MODES_WITH_TEXT: frozenset[Mode] = frozenset({"clone", "paralinguistic"})


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording: mono float32 [N] in [-1, 1] and its rate in Hz."""

    waveform: NDArray[np.float32]
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / self.sample_rate


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; `None` leaves a value to the model's default."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_aware: bool | None = None
    seed: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class SpeechJob:
    """One clone or one edit pass.

    Attributes:
        clip: the reference of a clone, the recording to edit otherwise.
        prompt_text: the words spoken in `clip`; unused by `denoise` and `vad`.
        text: what to say (`clone`), or the new text with its tags (`paralinguistic`).
        edit_info: emotion, style or speed tag.
        variant: which weights: `base`, `bnb` or `awq`.
        steps, guidance: of the flow's solver; `None` leaves them to the model.
    """

    mode: Mode
    clip: Clip
    prompt_text: str = ""
    text: str = ""
    edit_info: str = ""
    intensity: float = 1.0
    sampling: Sampling = field(default_factory=Sampling)
    variant: str = "base"
    steps: int | None = None
    guidance: float | None = None


@dataclass(frozen=True, slots=True)
class SpeechResult:
    """Speech and how it came about, or one part of a stream of it.

    Attributes:
        finish_reason: `stop`, or `length` when the token budget ended the speech; empty for a part that others follow,
            which has no counts and times: the last one has those of all.
        stage_ms: milliseconds by stage, in the order the stages ran.
        cache_hit: whether the server knew the recording's voice already; `None` where nobody asked or it is not known
            yet.
        voice_key: under which it keeps that voice, empty when it does not.
    """

    clip: Clip
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int
    stage_ms: dict[str, float]
    cache_hit: bool | None = None
    voice_key: str = ""


Synthesize = Callable[[SpeechJob], Awaitable[SpeechResult]]


async def run_passes(synthesize: Synthesize, job: SpeechJob, passes: int) -> SpeechResult:
    """Run `job` `passes` times, each pass on the output of the one before: the model's own control of strength.

    Counts and times of the passes add up.
    """
    last, results = await before_last_pass(synthesize, job, passes)
    return total([*results, await synthesize(last)])


async def stream_passes(
    synthesize: Synthesize,
    stream: Callable[[SpeechJob], AsyncGenerator[SpeechResult, None]],
    job: SpeechJob,
    passes: int,
) -> AsyncGenerator[SpeechResult, None]:
    """Do the same and give the speech of the last pass in parts, as it is made."""
    last, results = await before_last_pass(synthesize, job, passes)
    async with aclosing(stream(last)) as parts:
        async for part in parts:
            yield total([*results, part]) if part.finish_reason else part


async def before_last_pass(synthesize: Synthesize, job: SpeechJob, passes: int) -> tuple[SpeechJob, list[SpeechResult]]:
    """Run all passes but the last; return the job of the last one and the results of the others.

    After a paralinguistic pass the recording speaks the new text, so that becomes the transcript of the next one.
    """
    results: list[SpeechResult] = []
    last = job
    spoken = job.text if job.mode == "paralinguistic" else job.prompt_text
    for number in range(1, passes):
        results.append(await synthesize(last))
        sampling = replace(job.sampling, seed=derived_seed(job.sampling.seed or 0, number))
        last = replace(job, clip=results[-1].clip, prompt_text=spoken, sampling=sampling)
    return last, results


def total(results: Sequence[SpeechResult]) -> SpeechResult:
    """Return the last of several results with the counts and times of all; cut if any of them was.

    `cache_hit` is that of the first: later passes take clips that nobody has seen before.
    """
    stage_ms: dict[str, float] = {}
    for result in results:
        for stage, spent in result.stage_ms.items():
            stage_ms[stage] = stage_ms.get(stage, 0.0) + spent
    return replace(
        results[-1],
        finish_reason="length" if any(result.finish_reason == "length" for result in results) else "stop",
        prompt_tokens=sum(result.prompt_tokens for result in results),
        generated_tokens=sum(result.generated_tokens for result in results),
        stage_ms=stage_ms,
        cache_hit=results[0].cache_hit,
    )


def derived_seed(seed: int, number: int) -> int:
    """Return the seed of the `number`-th further piece of work under `seed`: 63 bits, repeatable, unrelated."""
    digest = sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
