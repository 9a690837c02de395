"""The random flow and vocoder of released size that the benchmarks share."""

from pathlib import Path

from export.demo.vocoder import write_vocoder

WORK = Path(__file__).resolve().parent.parent / "build" / "benchmark-vocoder"
SEED = 2025


def vocoder_checkpoint() -> Path:
    """Write it once (0.7 GB); later runs use it again. Returns its folder."""
    complete = WORK / "complete"
    if not complete.exists():
        write_vocoder(WORK, "released", SEED)
        complete.touch()
    return WORK
