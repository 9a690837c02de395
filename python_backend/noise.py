"""Gaussian noise addressed by position, so that any slice of a long noise can be made alone and again."""

import numpy as np
from numpy.typing import NDArray


def gaussian(seed: int, stream: str, start: int, count: int) -> NDArray[np.float32]:
    """Return standard normal values `start` … `start + count - 1` of the endless noise named by `seed` and `stream`.

    Philox (Salmon et al., 2011) is counter-based: word i needs no word before it. Each 64-bit word gives one value by
    the Box-Muller transform, so position i always costs exactly word i.

    Returns:
        float32 [count].
    """
    key = (seed & 0xFFFFFFFFFFFFFFFF) | (int.from_bytes(stream.encode()[:8], "little") << 64)
    generator = np.random.Philox(key=np.array([key & 0xFFFFFFFFFFFFFFFF, key >> 64], dtype=np.uint64))
    block, offset = divmod(start, 4)  # one step of the counter makes four words
    generator.advance(block)
    words = generator.random_raw(offset + count)[offset:]
    radius = ((words >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32
    angle = (words & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2.0 * np.pi * 2.0**-32)
    return (np.sqrt(-2.0 * np.log(radius)) * np.cos(angle)).astype(np.float32)
