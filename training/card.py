"""`MODEL_CARD.md`: what the checkpoint is, how it came about, and what it cannot do."""

import json
from importlib import resources
from pathlib import Path

STAGES = ("linguistic", "semantic", "speaker", "recognizer", "vocoder", "flow", "llm")
FIGURES = "figures.md"  # written by benchmarks/demo_quality.py into the checkpoint's folder


def write(work: Path, out: Path) -> None:
    """Write the card from its text, the training logs in `work` and, where there are any, the figures in `out`."""
    text = resources.files(__package__).joinpath("card.md").read_text(encoding="utf-8")
    figures = out / FIGURES
    measured = figures.read_text(encoding="utf-8") if figures.exists() else "Not measured yet.\n"
    (out / "MODEL_CARD.md").write_text(text.format(training=_training(work), figures=measured), encoding="utf-8")


def _training(work: Path) -> str:
    rows = ["| stage | steps | seconds per step | losses at the end |", "|---|---|---|---|"]
    for stage in STAGES:
        log = work / f"{stage}.jsonl"
        if not log.exists():
            continue
        last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
        step, seconds = last.pop("step"), last.pop("seconds_per_step")
        losses = ", ".join(f"{name} {value:.3f}" for name, value in last.items())
        rows.append(f"| {stage} | {step} | {seconds} | {losses} |")
    return "\n".join(rows)
