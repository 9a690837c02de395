"""Masks of right-padded batches."""

import torch


def valid_positions(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Mark the positions below each row's length.

    Args:
        lengths: integer [B].
        size: positions per row.

    Returns:
        bool [B, size].
    """
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]
