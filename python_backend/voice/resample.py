"""Windowed-sinc resampling, sample for sample that of `torchaudio.transforms.Resample` with its defaults.

The codes of both tokenizers depend on the resampler: another good one changes up to a quarter of them.
"""

import functools
import math

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

LOWPASS_WIDTH = 6  # zero crossings kept on each side
ROLLOFF = 0.99
PHASES = 64  # output positions per matrix: keeps rates without a common divisor affordable


def resample(waveform: NDArray[np.float32], rate: int, new_rate: int) -> NDArray[np.float32]:
    """Resample `waveform` float32 [N] from `rate` to `new_rate`, both in Hz, to float32 [ceil(N * new_rate / rate)].

    J. O. Smith's band-limited interpolation (https://ccrma.stanford.edu/~jos/resample/) with a Hann window.
    """
    divisor = math.gcd(rate, new_rate)
    old, new = rate // divisor, new_rate // divisor
    if old == new:
        return waveform
    width = _width(old, new)
    blocks = len(waveform) // old + 1
    padded = np.zeros((blocks + 1) * old + 2 * width + 1, dtype=np.float32)
    padded[width : width + len(waveform)] = waveform
    output = np.empty((blocks, new), dtype=np.float32)
    for phase, start, kernel in _kernels(old, new):
        shape, strides = (blocks, len(kernel)), (old * padded.itemsize, padded.itemsize)
        np.matmul(
            as_strided(padded[start:], shape, strides, writeable=False),
            kernel,
            out=output[:, phase : phase + kernel.shape[1]],
        )
    return output.reshape(-1)[: -(-len(waveform) * new // old)]


def _width(old: int, new: int) -> int:
    return math.ceil(LOWPASS_WIDTH * old / (min(old, new) * ROLLOFF))


@functools.lru_cache(maxsize=4)
def _kernels(old: int, new: int) -> list[tuple[int, int, NDArray[np.float32]]]:
    """Return (first output position, first input sample, matrix [inputs, outputs]) per group of output positions."""
    base, width = min(old, new) * ROLLOFF, _width(old, new)
    kernels = []
    for first in range(0, new, PHASES):
        phase = np.arange(first, min(first + PHASES, new))
        start, stop = first * old // new, phase[-1] * old // new + 2 * width + 1
        # torchaudio rounds this quotient to float32 and goes on in float64.
        output_time = phase.astype(np.float32) / np.float32(new)
        input_time = np.arange(start - width, stop - width)[:, None] / old
        crossing = np.clip((input_time - output_time) * base, -LOWPASS_WIDTH, LOWPASS_WIDTH)
        window = np.cos(crossing * (np.pi / LOWPASS_WIDTH / 2)) ** 2
        kernels.append((first, start, (np.sinc(crossing) * window * (base / old)).astype(np.float32)))
    return kernels
