"""Spectral features as torch modules that export to plain matrix products: Kaldi filterbank and Whisper log-mel.

A frame's DFT is one product with a constant matrix, so the graphs need no FFT operator, which TensorRT lacks and ONNX
Runtime runs slowly. Constants are computed in float64 and rounded once.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from python_backend.voice.mel import slaney_mel_filters, triangles

SAMPLE_RATE = 16_000
FRAME_LENGTH = 400
FRAME_SHIFT = 160

Array = NDArray[np.float64]


def frames(signal: Tensor) -> Tensor:
    """Cut signal [B, 160 n] into n - 2 overlapping frames [B, n - 2, 400], one every 160 samples."""
    whole, part = divmod(FRAME_LENGTH, FRAME_SHIFT)
    blocks = signal.reshape(signal.shape[0], -1, FRAME_SHIFT)
    count = blocks.shape[1] - whole
    pieces = [blocks[:, i : i + count] for i in range(whole)]
    return torch.cat([*pieces, blocks[:, whole : whole + count, :part]], dim=-1)


def pad_to_blocks(signal: Tensor) -> Tensor:
    """Pad signal [B, N] with zeros so that `frames` gives one frame for each begun block of 160 samples."""
    blocks = (signal.shape[1] + FRAME_SHIFT - 1) // FRAME_SHIFT + FRAME_LENGTH // FRAME_SHIFT
    return F.pad(signal, (0, blocks * FRAME_SHIFT - signal.shape[1]))


def dft_matrix(length: int, points: int) -> Array:
    """Return [length, 2 * bins]: the real, then the imaginary parts of the DFT over `points` of a zero-padded frame."""
    angle = 2 * np.pi * np.outer(np.arange(length), np.arange(points // 2 + 1)) / points
    return np.concatenate([np.cos(angle), -np.sin(angle)], axis=1)


def kaldi_mel_filters(bins: int, points: int) -> Array:
    """Return [points / 2 + 1, bins]: Kaldi's triangles on the mel scale, from 20 Hz to half the sample rate."""

    def mel(hertz: Array) -> Array:
        return 1127.0 * np.log1p(hertz / 700.0)

    frequencies = np.arange(points // 2 + 1) * (SAMPLE_RATE / points)
    low, high = mel(np.array([20.0, SAMPLE_RATE / 2]))
    filters = triangles(mel(frequencies), np.linspace(low, high, bins + 2))
    filters[-1] = 0.0  # Kaldi leaves the Nyquist bin out
    return filters


def hamming(length: int) -> Array:
    """Return Kaldi's symmetric Hamming window [length]."""
    return 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(length) / (length - 1))


def povey(length: int) -> Array:
    """Return Kaldi's default window [length], a symmetric Hann to the power 0.85."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85


def _constant(value: Array) -> Tensor:
    return torch.from_numpy(value).float()


class KaldiFbank(nn.Module):
    """Kaldi's log-mel filterbank (`compute-fbank-feats`): 25 ms frames every 10 ms, no energy, no dither of its own.

    Args:
        bins: mel bins.
        window: makes the window of a given length.
    """

    POINTS = 512
    PREEMPHASIS = 0.97
    FLOOR = 1.1920929e-07  # float32 epsilon

    window: Tensor
    dft: Tensor
    filters: Tensor

    def __init__(self, bins: int, window: Callable[[int], Array]):
        super().__init__()
        self.register_buffer("window", _constant(window(FRAME_LENGTH)), persistent=False)
        self.register_buffer("dft", _constant(dft_matrix(FRAME_LENGTH, self.POINTS)), persistent=False)
        self.register_buffer("filters", _constant(kaldi_mel_filters(bins, self.POINTS)), persistent=False)

    def forward(self, frame: Tensor) -> Tensor:
        """Turn frames [..., 400] into log-mel energies [..., bins]."""
        frame = frame - frame.mean(dim=-1, keepdim=True)
        previous = torch.cat([frame[..., :1], frame[..., :-1]], dim=-1)
        spectrum = ((frame - self.PREEMPHASIS * previous) * self.window) @ self.dft
        real, imaginary = spectrum.split(self.POINTS // 2 + 1, dim=-1)
        return ((real * real + imaginary * imaginary) @ self.filters).clamp(min=self.FLOOR).log()


class WhisperLogMel(nn.Module):
    """Whisper's log-mel spectrogram (`whisper.log_mel_spectrogram`), without its padding to 30 s."""

    BINS = 128

    dft: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME_LENGTH) / FRAME_LENGTH)
        filters = slaney_mel_filters(self.BINS, FRAME_LENGTH, SAMPLE_RATE, SAMPLE_RATE / 2)
        self.register_buffer("dft", _constant(hann[:, None] * dft_matrix(FRAME_LENGTH, FRAME_LENGTH)), persistent=False)
        self.register_buffer("filters", _constant(filters), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Turn audio [1, N > 200] into log-mel [1, 128, N // 160], whose range is the 8 decades below its maximum."""
        half = FRAME_LENGTH // 2
        count = audio.shape[1] // FRAME_SHIFT
        padded = F.pad(audio[:, None], (half, half), mode="reflect")[:, 0]
        spectrum = frames(pad_to_blocks(padded))[:, :count] @ self.dft
        real, imaginary = spectrum.split(FRAME_LENGTH // 2 + 1, dim=-1)
        log_mel = ((real * real + imaginary * imaginary) @ self.filters).clamp(min=1e-10).log10()
        log_mel = torch.maximum(log_mel, log_mel.max() - 8.0)
        return ((log_mel + 4.0) / 4.0).transpose(1, 2)
