"""Choosing the next token, for a batch whose rows each have their own rules."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

REPETITION_WINDOW = 10  # Step-Audio-EditX: window 10, ratio 0.1


@dataclass(frozen=True)
class Sampling:
    """How one request chooses its tokens.

    Args:
        temperature: 0 takes the most likely token.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the most likely tokens that together reach this probability; 1 keeps all.
        repetition_aware: apply `repeated`.
        grammar: sample only from what `grammar` allows.
        seed: one seed gives one result, whatever else is in the batch.
    """

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    repetition_aware: bool = False
    grammar: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Draw:
    """What one row of a batch needs for one step.

    Args:
        sampling: its rules.
        uniform: in [0, 1), see `uniforms`.
        banned: column that must not be chosen.
    """

    sampling: Sampling
    uniform: float
    banned: int | None = None


def uniforms(seed: int, count: int) -> NDArray[np.float64]:
    """Return the random numbers of steps 0 … count - 1, float64 [count] in [0, 1).

    Philox (Salmon et al., 2011) is counter-based: number i depends on the seed and i alone.
    """
    generator = np.random.Philox(key=np.array([seed & 0xFFFFFFFFFFFFFFFF, 0], dtype=np.uint64))
    return (generator.random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def repeated(ids: Sequence[int]) -> int | None:
    """Return the id that the repetition-aware rule of Step-Audio-EditX forbids next, or None.

    The most recent id may not come again while it is already there twice or more (a share above 0.1) in the last ten
    ids, the prompt's included. With fewer than ten ids nothing is forbidden.
    """
    window = ids[-REPETITION_WINDOW:]
    if len(window) < REPETITION_WINDOW:
        return None
    latest = window[-1]
    return latest if sum(token == latest for token in window) >= 2 else None


def tabulate(draws: Sequence[Draw]) -> torch.Tensor:
    """Return what `sample` needs as one table, float64 [5, rows], which travels to a device in one copy."""
    rows = [
        (
            draw.sampling.temperature,
            draw.uniform,
            -1 if draw.banned is None else draw.banned,
            draw.sampling.top_k,
            draw.sampling.top_p,
        )
        for draw in draws
    ]
    return torch.tensor(rows, dtype=torch.float64).T.contiguous()


def is_ranked(sampling: Sampling) -> bool:
    """Return whether `sampling` needs the columns in order, which `sample` can be spared."""
    return sampling.top_k > 0 or sampling.top_p < 1


def sample(logits: torch.Tensor, table: torch.Tensor, ranked: bool = True) -> torch.Tensor:
    """Choose one column per row.

    A row's choice depends on its own logits and draw only.

    Args:
        logits: [rows, columns]; -inf in columns that cannot be.
        table: see `tabulate`, on the device of `logits`.
        ranked: False ignores top_k and top_p.

    Returns:
        int64 [rows]; -1 where a row's logits are not numbers.
    """
    temperature, uniform, banned, top_k, top_p = table[:, :, None]
    column = banned.long()
    kept = logits.float().gather(-1, column.clamp(min=0))
    logits = logits.float().scatter(-1, column.clamp(min=0), torch.where(column < 0, kept, -torch.inf))
    peak, greedy = logits.max(-1)
    greedy = greedy.masked_fill(~peak.isfinite(), -1)
    # Relative to the peak, so that a small temperature cannot overflow.
    scaled = (logits - peak[:, None]) / temperature.clamp(min=1e-6).float()
    if ranked:
        scaled = _keep_likely(scaled, top_k.long(), top_p)
    cumulative = scaled.exp().cumsum(-1, dtype=torch.float64)
    chosen = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]
    chosen = chosen.clamp(max=logits.shape[-1] - 1)
    return torch.where((temperature[:, 0] == 0) | (greedy < 0), greedy, chosen)


def _keep_likely(scaled: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Set to -inf what top_k and top_p leave out, in the columns' own order; equal logits rank by column."""
    ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
    dropped = (torch.arange(scaled.shape[-1], device=scaled.device) >= top_k) & (top_k > 0)
    weight = ordered.masked_fill(dropped, -torch.inf).exp().double()
    before = weight.cumsum(-1) - weight
    # A token stays when those above it have not reached top_p yet, so the first one always does.
    dropped |= (before >= top_p * weight.sum(-1, keepdim=True)) & (top_p < 1)
    return scaled.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -torch.inf)
