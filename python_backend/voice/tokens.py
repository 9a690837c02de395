"""The order in which the language model and the flow read the codes of the two tokenizers."""

import numpy as np
from numpy.typing import NDArray

LINGUISTIC_CODES = 1024
LINGUISTIC_PER_GROUP = 2
SEMANTIC_PER_GROUP = 3


def interleave(linguistic: NDArray[np.int32], semantic: NDArray[np.int32]) -> NDArray[np.int32]:
    """Merge vq02 codes [n] and vq06 codes [m] into int32 [5g]: groups of two vq02 codes and three vq06 codes + 1024.

    Codes that do not fill a last group are dropped.
    """
    groups = min(len(linguistic) // LINGUISTIC_PER_GROUP, len(semantic) // SEMANTIC_PER_GROUP)
    columns = (
        linguistic[: groups * LINGUISTIC_PER_GROUP].reshape(-1, LINGUISTIC_PER_GROUP),
        semantic[: groups * SEMANTIC_PER_GROUP].reshape(-1, SEMANTIC_PER_GROUP) + LINGUISTIC_CODES,
    )
    return np.concatenate(columns, axis=1).reshape(-1).astype(np.int32)
