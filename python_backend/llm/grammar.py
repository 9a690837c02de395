"""What may come next in generated speech: groups of five, two vq02 codes then three vq06 codes, a stop between groups.

The original does not enforce this, and one stray token shifts every later group. Sampling only from what may come next
removes that class of failure, and lets the output head compute 5121 rows in place of the whole vocabulary.
"""

import torch

VQ02_CODES = 1024
VQ06_CODES = 4096
AUDIO_TOKENS = VQ02_CODES + VQ06_CODES
GROUP = 5
SECONDS_PER_GROUP = 0.12  # 2 codes at 16.67 Hz, 3 codes at 25 Hz
STOP = AUDIO_TOKENS
COLUMNS = AUDIO_TOKENS + 1

_FIRST, _BETWEEN, _VQ02, _VQ06 = range(4)


def allowed_table() -> torch.Tensor:
    """Return the four sets of what may come next, bool [4, 5121]: audio tokens 0 … 5119, then the stop.

    The very first group cannot be a stop: an empty answer is of use to nobody.
    """
    table = torch.zeros(4, COLUMNS, dtype=torch.bool)
    table[[_FIRST, _BETWEEN, _VQ02], :VQ02_CODES] = True
    table[_VQ06, VQ02_CODES:AUDIO_TOKENS] = True
    table[_BETWEEN, STOP] = True
    return table


def row(generated: int) -> int:
    """Return the row of `allowed_table` that holds after `generated` tokens."""
    place = generated % GROUP
    if place == 0:
        return _BETWEEN if generated else _FIRST
    return _VQ02 if place == 1 else _VQ06


def misplaced(tokens: list[int], first: int = 0) -> int | None:
    """Return the index of the first of `tokens` that breaks the pattern, or None.

    Args:
        tokens: audio tokens, value space.
        first: how many tokens came before them.
    """
    for index, token in enumerate(tokens):
        is_vq02_place = (first + index) % GROUP < 2
        low, high = (0, VQ02_CODES) if is_vq02_place else (VQ02_CODES, AUDIO_TOKENS)
        if not low <= token < high:
            return index
    return None
