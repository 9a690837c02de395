"""From what each listener heard to the figures of a run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Column, Table

PERCENTILES = (50, 95, 99)
STALLS_MS = (50, 100, 200)


@dataclass(frozen=True)
class Outcome:
    """One request. All times in seconds from the start of the run.

    Attributes:
        due: when it was to be sent; waiting for its turn counts as waiting for its sound.
        first_audio: when the first sound came, `None` where none did.
        ended: when the last byte or the error came.
        audio: length of the sound.
        stall: seconds that its playback stood still, see `client.load.playback`.
        error: the kind of failure, empty for none.
    """

    due: float
    first_audio: float | None
    ended: float
    audio: float
    stall: float
    error: str = ""


@dataclass(frozen=True)
class Report:
    """The figures of a run.

    Attributes:
        requests: sent.
        errors: failed, by kind; they count in nothing else.
        first_audio: seconds to first audio at each of `PERCENTILES`.
        real_time_factor: time of a request over the length of its sound, at the median.
        continuity: share of requests whose playback stood still for no more than each of `STALLS_MS`, all pauses of a
            request together.
        throughput: seconds of sound made per second.
        seconds: from the first request's start to the last one's end.
    """

    requests: int
    errors: dict[str, int]
    first_audio: tuple[float, ...]
    real_time_factor: float
    continuity: tuple[float, ...]
    throughput: float
    seconds: float


def summarise(outcomes: Sequence[Outcome]) -> Report:
    """Return the figures of a run; those that no request stands behind are NaN."""
    served = [
        outcome for outcome in outcomes if not outcome.error and outcome.audio and outcome.first_audio is not None
    ]
    errors = Counter(outcome.error or "silence" for outcome in outcomes if outcome not in served)
    seconds = max((o.ended for o in outcomes), default=0.0) - min((o.due for o in outcomes), default=0.0)
    waits = np.array([o.first_audio - o.due for o in served if o.first_audio is not None])
    stalls = np.array([o.stall for o in served]) * 1000
    factors = np.array([(o.ended - o.due) / o.audio for o in served])
    nan = float("nan")
    return Report(
        requests=len(outcomes),
        errors=dict(errors),
        first_audio=tuple(float(np.percentile(waits, p)) if served else nan for p in PERCENTILES),
        real_time_factor=float(np.median(factors)) if served else nan,
        continuity=tuple(float(np.mean(stalls <= limit)) if served else nan for limit in STALLS_MS),
        throughput=sum(o.audio for o in served) / seconds if seconds else nan,
        seconds=seconds,
    )


def table(rows: Sequence[tuple[str, Report]], title: str) -> Table:
    """Return a table with one line for each run."""
    percentiles = " · ".join(f"p{p}" for p in PERCENTILES)
    limits = " · ".join(str(limit) for limit in STALLS_MS)
    columns = [f"first audio ms\n{percentiles}", "RTF\np50", f"continuous at\n{limits} ms", "sound\ns/s"]
    shown = Table("load", "requests", *columns, Column("errors", no_wrap=True), title=title)
    for name, report in rows:
        waits = " · ".join(f"{seconds * 1000:.0f}" for seconds in report.first_audio)
        shares = " · ".join(f"{share:.0%}" for share in report.continuity)
        errors = ", ".join(f"{count} {kind}" for kind, count in sorted(report.errors.items())) or "0"
        cells = [waits, f"{report.real_time_factor:.2f}", shares, f"{report.throughput:.2f}", errors]
        shown.add_row(name, str(report.requests), *cells)
    return shown
