"""The state of a streamed solve at time 0."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from python_backend.noise import gaussian


class FrameNoise(Protocol):
    """Noise of a part of the flow's state; frame 0 is the prompt's first."""

    def __call__(self, first: int, frames: int) -> NDArray[np.float32]:
        """Return float32 [frames, mel]."""


class SeededNoise:
    """The noise whole utterances are made from, of the same seed at the same frame."""

    def __init__(self, seed: int, mel_channels: int):
        self._seed = seed
        self._mel_channels = mel_channels

    def __call__(self, first: int, frames: int) -> NDArray[np.float32]:
        """Return float32 [frames, mel]."""
        channels = self._mel_channels
        return gaussian(self._seed, "flow", first * channels, frames * channels).reshape(frames, channels)
