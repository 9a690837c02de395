"""The training loop that all networks share: warm-up and cosine, bfloat16, checkpoints to resume from."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

SAVE_SECONDS = 120
REPORT_STEPS = 50
AHEAD = 4  # batches drawn while the network is busy

T = TypeVar("T")


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        steps: updates in all.
        rate: highest learning rate, after `warmup` steps; it falls to `floor` times that along a cosine.
        weight_decay: of matrices; vectors have none.
        clip: largest norm of a gradient.
    """

    steps: int
    rate: float
    warmup: int = 200
    floor: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)

    def scaled(self, effort: float) -> "Schedule":
        """Return this schedule with so many times the steps, two at least."""
        return replace(self, steps=max(2, round(self.steps * effort)), warmup=max(1, round(self.warmup * effort)))

    def at(self, step: int) -> float:
        """Return the learning rate of a step."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        part = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * part)))


def train(
    network: nn.Module,
    draw: Callable[[int], T],
    loss: Callable[[T, int], dict[str, torch.Tensor]],
    schedule: Schedule,
    folder: Path,
    name: str,
    device: torch.device,
) -> None:
    """Train `network` until the schedule's end, from the last checkpoint in `folder` if there is one.

    Args:
        network: on `device`; its weights are updated in place.
        draw: makes the batch of a step on the CPU; it seeds itself by the step's number, so that a resumed run sees
            what an uninterrupted one would. It is called in other threads, ahead of time.
        loss: makes the named losses of a batch and its step, whose sum is minimised.
        folder: gets `<name>.state` (to resume) and `<name>.jsonl` (a line of means every 50 steps).
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_path, log_path = folder / f"{name}.state", folder / f"{name}.jsonl"
    optimizer = torch.optim.AdamW(_groups(network, schedule.weight_decay), lr=schedule.rate, betas=schedule.betas)
    first = 0
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    network.train()

    def save(step: int) -> None:
        part = state_path.with_suffix(".part")
        torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, part)
        part.replace(state_path)

    sums: dict[str, torch.Tensor | float] = {}
    counted, saved, started = 0, time.monotonic(), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, log_path.open("a", encoding="utf-8") as log:
        task = progress.add_task(name, total=schedule.steps, completed=first)
        for step, batch in drawn(draw, first, schedule.steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.at(step)
            with torch.autocast(device.type, torch.bfloat16):
                losses = loss(batch, step)
            optimizer.zero_grad(set_to_none=True)
            torch.stack([value.float() for value in losses.values()]).sum().backward()
            nn.utils.clip_grad_norm_(network.parameters(), schedule.clip)
            optimizer.step()
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + value.detach().float()
            counted += 1
            if (step + 1) % REPORT_STEPS == 0 or step + 1 == schedule.steps:
                means = {key: round(float(value) / counted, 4) for key, value in sums.items()}
                seconds = round((time.monotonic() - started) / counted, 3)
                log.write(json.dumps({"step": step + 1, **means, "seconds_per_step": seconds}) + "\n")
                log.flush()
                progress.update(task, description=f"{name} " + " ".join(f"{k} {v:.3f}" for k, v in means.items()))
                sums, counted, started = {}, 0, time.monotonic()
            if time.monotonic() - saved > SAVE_SECONDS:
                save(step + 1)
                saved = time.monotonic()
            progress.advance(task)
    save(schedule.steps)
    network.eval()


def drawn(draw: Callable[[int], T], first: int, stop: int) -> Iterator[tuple[int, T]]:
    """Yield every step from `first` to `stop` with its batch, which is drawn while the ones before are in use."""
    with ThreadPoolExecutor(2, "draw") as pool:
        ahead: deque[Future[T]] = deque()
        for step in range(first, stop):
            while len(ahead) <= AHEAD and step + len(ahead) < stop:
                ahead.append(pool.submit(draw, step + len(ahead)))
            yield step, ahead.popleft().result()


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    parameters = [value for value in network.parameters() if value.requires_grad]
    return [
        {"params": [value for value in parameters if value.dim() > 1], "weight_decay": weight_decay},
        {"params": [value for value in parameters if value.dim() <= 1], "weight_decay": 0.0},
    ]
