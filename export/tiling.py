"""Long rows of [B, C, 1, T] as tiles [B, C, tiles, width], for convolutions whose rows do not see one another.

ONNX Runtime shares a two-dimensional convolution out to its threads by filters (in sets of 64) and by output rows. One
row of 64 filters would keep a single thread busy; tiles give every thread some.
"""

import torch
from torch.nn import functional as F

TILE = 4096  # positions; wide, so that the halos cost little
FILTER_SET = 64
FAIR_SHARES = 4  # the pieces of work are a multiple of this, so that 2 or 4 threads finish together


class Tiling:
    """Cuts rows of one size into tiles with a halo of their neighbours' positions on both sides.

    Args:
        size: positions of a row.
        channels: of the convolutions inside the tiles.
        halo: how far, in positions, a result reaches for its inputs.
    """

    def __init__(self, size: int, channels: int, halo: int):
        unit = max(1, FAIR_SHARES * FILTER_SET // max(channels, FILTER_SET))
        self.size, self.halo = size, halo
        self.tiles = unit * ((size + unit * TILE - 1) // (unit * TILE))
        # A multiple of the halo, so that a halo never reaches beyond the next tile.
        self.width = (size + self.tiles * halo - 1) // (self.tiles * halo) * halo

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """Cut [B, C, 1, size] into [B, C, tiles, halo + width + halo]; zeros beyond both ends."""
        padded = F.pad(x, (0, self.tiles * self.width - self.size))
        tiles = padded.reshape(x.shape[0], x.shape[1], self.tiles, self.width)
        before = F.pad(tiles[..., -self.halo :], (0, 0, 1, 0))[:, :, :-1]
        after = F.pad(tiles[..., : self.halo], (0, 0, 0, 1))[:, :, 1:]
        return torch.cat([before, tiles, after], dim=-1)

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """Put [B, C, tiles, halo + width + halo] together again: [B, C, 1, size]."""
        rows = x[..., self.halo : -self.halo].reshape(x.shape[0], x.shape[1], 1, -1)
        return rows[..., : self.size]
