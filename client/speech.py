"""What a speech model is asked and what it answers, free of any transport."""

from collections.abc import Awaitable, Callable, Sequence
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
    """

    mode: Mode
    clip: Clip
    prompt_text: str = ""
    text: str = ""
    edit_info: str = ""
    intensity: float = 1.0
    sampling: Sampling = field(default_factory=Sampling)
    variant: str = "base"


@dataclass(frozen=True, slots=True)
class SpeechResult:
    """Speech and how it came about.

    Attributes:
        finish_reason: `stop`, or `length` when the token budget ended the speech.
        stage_ms: milliseconds by stage, in the order the stages ran.
    """

    clip: Clip
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int
    stage_ms: dict[str, float]


async def run_passes(
    synthesize: Callable[[SpeechJob], Awaitable[SpeechResult]], job: SpeechJob, passes: int
) -> SpeechResult:
    """Run `job` `passes` times, each pass on the output of the one before: the model's own control of strength.

    After a paralinguistic pass the recording speaks the new text, so that becomes the transcript of the next one.
    Counts and times of the passes add up.
    """
    results = [await synthesize(job)]
    for number in range(1, passes):
        spoken = job.text if job.mode == "paralinguistic" else job.prompt_text
        sampling = replace(job.sampling, seed=derived_seed(job.sampling.seed or 0, number))
        again = replace(job, clip=results[-1].clip, prompt_text=spoken, sampling=sampling)
        results.append(await synthesize(again))
    return total(results)


def total(results: Sequence[SpeechResult]) -> SpeechResult:
    """Return the last of several results with the counts and times of all; cut if any of them was."""
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
    )


def derived_seed(seed: int, number: int) -> int:
    """Return the seed of the `number`-th further piece of work under `seed`: 63 bits, repeatable, unrelated."""
    digest = sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
