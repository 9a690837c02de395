"""Solving the flow's ordinary differential equation from noise to mel."""

import math
from typing import Protocol

import torch

from python_backend.token2wav.masks import valid_positions


class Estimator(Protocol):
    """The velocity field, on whatever runtime; arguments and results are float32 torch tensors on one device."""

    def modulation(self, times: torch.Tensor) -> torch.Tensor:
        """Map times [K] to [K, vectors, C]."""

    def velocity(
        self, x: torch.Tensor, context: torch.Tensor, modulation: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Map states [R, T, mel], contexts [R, T, C], one time's [vectors, C] and a mask [R, T] to [R, T, mel]."""


def time_grid(steps: int) -> torch.Tensor:
    """Return the times 0 … 1 of a solve, dense at the start (cosine schedule): float32 [steps + 1]."""
    return 1 - torch.cos(torch.linspace(0, 1, steps + 1) * (0.5 * math.pi))


def solve(
    estimator: Estimator,
    noise: torch.Tensor,
    context: torch.Tensor,
    lengths: torch.Tensor,
    steps: int,
    guidance: float,
) -> torch.Tensor:
    """Integrate with Euler steps under classifier-free guidance.

    The velocity is (1 + g) * v(context) - g * v(no context); both are rows of one call.

    Args:
        noise: float32 [B, T, mel], the states at time 0.
        context: float32 [B, T, C] of the flow's `context`.
        lengths: int64 [B], frames that count; the rest is padding and changes nothing.
        steps: Euler steps.
        guidance: g; at 0 the rows without context are left out.

    Returns:
        float32 [B, T, mel]; meaningless past a row's length.
    """
    batch, frames, _ = noise.shape
    times = time_grid(steps)
    modulation = estimator.modulation(times[:-1])
    mask = None if bool((lengths == frames).all()) else valid_positions(lengths, frames)
    guided = guidance != 0
    if guided:
        context = torch.cat([context, torch.zeros_like(context)])
        mask = None if mask is None else mask.repeat(2, 1)
    x = noise
    for step in range(steps):
        states = x.repeat(2, 1, 1) if guided else x
        velocity = estimator.velocity(states, context, modulation[step], mask)
        if guided:
            velocity = (1 + guidance) * velocity[:batch] - guidance * velocity[batch:]
        x = x + float(times[step + 1] - times[step]) * velocity
    return x
