"""Random voices and speech for the small checkpoint."""

import numpy as np


def random_tokens(groups, seed=0):
    random = np.random.default_rng(seed)
    vq02, vq06 = random.integers(0, 1024, (groups, 2)), random.integers(1024, 5120, (groups, 3))
    return np.concatenate([vq02, vq06], axis=1).astype(np.int32).ravel()


def random_voice(groups, seed=100):
    """Prompt tokens, prompt mel of nearly their length, speaker embedding."""
    random = np.random.default_rng(seed)
    mel = random.normal(-5, 2, (80, 6 * groups + 3)).astype(np.float32)
    return random_tokens(groups, seed), mel, random.normal(size=192).astype(np.float32)
