"""What a comparison found, and the table that shows it."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

WIDTH = 170  # of a table that goes to a file


@dataclass(frozen=True)
class Row:
    """One stage of ours against a baseline on the same input.

    Attributes:
        stage: what was measured.
        threads: compute threads each side had.
        ours_seconds: least time of ours.
        baseline_seconds: least time of the baseline.
        baseline_name: what the baseline is.
        note: sizes, input and what was checked.
        digits: of the seconds, after the point.
    """

    stage: str
    threads: int
    ours_seconds: float
    baseline_seconds: float
    baseline_name: str
    note: str = ""
    digits: int = 3

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.baseline_seconds / self.ours_seconds


def best_seconds(runs: int, *sides: Callable[[], object]) -> list[float]:
    """Return each side's least wall time of `runs` calls, after one that does not count.

    The sides take turns, and the least time is the one that other work on the machine disturbed least.
    """
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(runs + 1):
        for side, taken in zip(sides, times, strict=True):
            started = time.perf_counter()
            side()
            taken.append(time.perf_counter() - started)
    return [min(taken[1:]) for taken in times]


def print_rows(rows: Sequence[Row]) -> None:
    """Print the rows as a table."""
    table = Table("stage", "threads", "ours (s)", "baseline (s)", "faster", "baseline", "note")
    for row in rows:
        table.add_row(
            row.stage,
            str(row.threads),
            f"{row.ours_seconds:.{row.digits}f}",
            f"{row.baseline_seconds:.{row.digits}f}",
            f"{row.ratio:.2f}×",
            row.baseline_name,
            row.note,
        )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
