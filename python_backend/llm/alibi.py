"""√-ALiBi: attention favours near positions by a bias that grows with the square root of the distance.

Press et al., 2021 (ALiBi) for the slopes; Step1 takes the root of the distance in place of the distance itself.
"""

import math

import torch


def slopes(heads: int) -> torch.Tensor:
    """Return one slope per head, float32 [heads].

    With n the largest power of two ≤ heads: the first n are 2^(-8k/n), k = 1 … n; the others are every second one of
    the series for 2n heads.
    """
    n = 2 ** int(math.log2(heads))
    first = [2.0 ** (-8.0 * k / n) for k in range(1, n + 1)]
    rest = [2.0 ** (-4.0 * (2 * m - 1) / n) for m in range(1, heads - n + 1)]
    return torch.tensor(first + rest)


def bias(slope: torch.Tensor, positions: torch.Tensor, length: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to the scores of queries at `positions` against keys at 0 … length - 1.

    -slope · √(position - key) for keys up to the query's own position, -inf after it. It is rounded to `dtype`, the
    dtype of the queries, as the reference does.

    Args:
        slope: float32 [groups, heads per group].
        positions: int64 [batch, queries].

    Returns:
        [batch, groups, heads per group · queries, length]; the rows of one group are its heads, then their queries.
    """
    distance = positions[:, :, None] - torch.arange(length, device=positions.device)
    root = distance.clamp(min=0).to(torch.float32).sqrt().masked_fill(distance < 0, torch.inf)
    return (-slope[None, :, :, None, None] * root[:, None, None]).to(dtype).flatten(2, 3)
