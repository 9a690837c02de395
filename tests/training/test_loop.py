"""The training loop: what it draws, and that a run that was stopped ends as one that was not."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from training.loop import Schedule, drawn, train

CPU = torch.device("cpu")


def test_batches_come_in_order_whatever_thread_draws_them() -> None:
    assert list(drawn(lambda step: step * step, 2, 9)) == [(step, step * step) for step in range(2, 9)]


def test_an_error_while_drawing_ends_the_run() -> None:
    def draw(step: int) -> int:
        if step == 3:  # the third batch cannot be drawn
            raise ValueError("no clip")
        return step

    with pytest.raises(ValueError, match="no clip"):
        list(drawn(draw, 0, 9))


def test_the_rate_warms_up_and_falls() -> None:
    schedule = Schedule(steps=1000, rate=1.0, warmup=100, floor=0.1)
    assert schedule.at(0) == pytest.approx(0.01)
    assert schedule.at(99) == pytest.approx(1.0)
    assert schedule.at(1000) == pytest.approx(0.1)
    assert schedule.scaled(0.5) == Schedule(steps=500, rate=1.0, warmup=50, floor=0.1)


def fitted(folder: Path, *stops: int) -> nn.Linear:
    """Train a line for 6 steps, with a stop of the process at each of `stops`."""
    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    for stop in (*stops, 6):
        network = nn.Linear(3, 1) if stops and stop != stops[0] else network

        def draw(step: int) -> torch.Tensor:
            return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))

        def loss(x: torch.Tensor, step: int, network: nn.Linear = network, stop: int = stop) -> dict[str, torch.Tensor]:
            if step == stop:
                raise KeyboardInterrupt
            return {"square": (network(x) - x.sum(dim=1, keepdim=True)).square().mean()}

        try:
            train(network, draw, loss, Schedule(steps=6, rate=0.1, warmup=1), folder, "line", CPU)
        except KeyboardInterrupt:
            continue
    return network


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.loop.SAVE_SECONDS", 0)
    whole, parts = fitted(tmp_path / "whole"), fitted(tmp_path / "parts", 3)
    assert torch.allclose(whole.weight, parts.weight, atol=1e-6)
    lines = (tmp_path / "whole" / "line.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 6
