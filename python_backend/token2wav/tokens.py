"""Audio tokens and prompt mel as the flow takes them: checked, paired, and aligned in time."""

import numpy as np
from numpy.typing import NDArray

from python_backend.errors import InvalidInput

GROUP = 5  # two vq02 tokens (16.67 Hz), then three vq06 tokens (25 Hz)
VQ02_SLOTS = 2
PAIRS_PER_GROUP = GROUP - VQ02_SLOTS
VQ02_CODES = 1024  # token values below are vq02 codes; vq06 code c is the value VQ02_CODES + c


def pairs(field: str, tokens: NDArray[np.int32], vocab_size: int, max_groups: int) -> NDArray[np.int64]:
    """Turn interleaved tokens into one pair per 40 ms.

    Group [a, b, x, y, z] becomes (a, x), (b, y), (pad, z). In the shared table row `VQ02_CODES` is the padding, so
    vq06 rows lie one above their token values.

    Args:
        field: name of the request's input, for the error.
        tokens: int32 [5g].
        vocab_size: rows of the table.
        max_groups: the most groups allowed.

    Returns:
        int64 [3g, 2].

    Raises:
        InvalidInput: no tokens, too many, a broken group, or a value outside the range of its slot.
    """
    count = len(tokens)
    if count == 0 or count % GROUP:
        raise InvalidInput(field, f"must hold whole groups of {GROUP} tokens, holds {count}")
    if count > max_groups * GROUP:
        raise InvalidInput(field, f"holds {count} tokens, at most {max_groups * GROUP} are allowed")
    groups = tokens.astype(np.int64).reshape(-1, GROUP)
    low = np.array([0] * VQ02_SLOTS + [VQ02_CODES] * PAIRS_PER_GROUP)
    high = np.array([VQ02_CODES - 1] * VQ02_SLOTS + [vocab_size - 2] * PAIRS_PER_GROUP)
    wrong = np.flatnonzero((groups < low) | (groups > high))
    if wrong.size:
        index = int(wrong[0])
        slot = index % GROUP
        kind = "vq02" if slot < VQ02_SLOTS else "vq06"
        raise InvalidInput(
            field, f"value {tokens[index]} at index {index} is outside {low[slot]} … {high[slot]} of a {kind} slot"
        )
    paired = np.full((len(groups), PAIRS_PER_GROUP, 2), VQ02_CODES, dtype=np.int64)
    paired[:, :VQ02_SLOTS, 0] = groups[:, :VQ02_SLOTS]
    paired[:, :, 1] = groups[:, VQ02_SLOTS:] + 1
    return paired.reshape(-1, 2)


def nearest_frames(frames: int, wanted: int) -> NDArray[np.int64]:
    """Return which of `frames` source frames stands at each of `wanted` places: int64 [wanted].

    The arithmetic is that of torch's nearest interpolation, in float32, because that is how the checkpoint's prompts
    were aligned.
    """
    scale = np.float32(frames) / np.float32(wanted)
    index = np.floor(np.arange(wanted, dtype=np.float32) * scale).astype(np.int64)
    return np.minimum(index, frames - 1)
