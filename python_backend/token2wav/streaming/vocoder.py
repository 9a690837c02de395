"""Mel to waveform in chunks: every chunk is made with the end of the one before, and faded into it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from python_backend.noise import gaussian

SAMPLES_PER_FRAME = 480
OVERLAP_FRAMES = 8  # 0.16 s (Step-Audio-EditX's `stepvocoder`)

Floats = NDArray[np.float32]
# Takes mel [mel, T], mel_length [1], noise [480T], cached_source [K], cached_source_length [1] of the model `vocoder`;
# gives its waveform [480T] and source [480T].
Vocoder = Callable[[Floats, NDArray[np.int32], Floats, Floats, NDArray[np.int32]], tuple[Floats, Floats]]


def raised_cosine(samples: int) -> tuple[Floats, Floats]:
    """Return weights for the new and the old side of a cross-fade, [samples] each, that sum to one everywhere."""
    new = 0.5 - 0.5 * np.cos(np.pi * (np.arange(samples) + 0.5) / samples)
    return new.astype(np.float32), (1 - new).astype(np.float32)


class VocoderStream:
    """Waveform of one utterance, chunk by chunk.

    The end of each chunk is held back and cross-faded with what the next chunk makes of the same frames, so all chunks
    together have exactly 480 samples per frame.

    Args:
        vocoder: computes one chunk; lengths are those of the arrays, nothing is padded.
        seed: of the source's noise, addressed by sample as in a whole utterance; None for none (parity).
        fade: weights of the cross-fade.
    """

    def __init__(
        self, vocoder: Vocoder, seed: int | None, fade: Callable[[int], tuple[Floats, Floats]] = raised_cosine
    ):
        self._vocoder = vocoder
        self._seed = seed
        self._fade = fade
        self._first_frame = 0  # of the cached mel, from the start of the utterance
        self._mel: Floats | None = None
        self._source = self._held_back = np.empty(0, dtype=np.float32)

    def push(self, mel: Floats, last: bool) -> Floats:
        """Make the waveform of one chunk.

        Args:
            mel: float32 [mel, T], T at least 1.
            last: nothing is held back, and the caches are freed.

        Returns:
            float32 [samples] that follow those returned so far; may be empty when T is at most 8.
        """
        if self._mel is not None:
            mel = np.concatenate([self._mel, mel], axis=1)
        frames = mel.shape[1]
        samples = SAMPLES_PER_FRAME * frames
        noise = np.zeros(samples, dtype=np.float32)
        if self._seed is not None:
            noise = gaussian(self._seed, "hift", SAMPLES_PER_FRAME * self._first_frame, samples)
        cached = self._source if self._source.size else np.zeros(1, dtype=np.float32)
        lengths = np.array([frames], dtype=np.int32), np.array([self._source.size], dtype=np.int32)
        waveform, source = self._vocoder(np.ascontiguousarray(mel), lengths[0], noise, cached, lengths[1])

        overlap = self._held_back.size
        if overlap:
            new, old = self._fade(overlap)
            waveform = np.concatenate([waveform[:overlap] * new + self._held_back * old, waveform[overlap:]])
        if last:
            self.close()
            return waveform
        kept = min(OVERLAP_FRAMES, frames)
        hold = SAMPLES_PER_FRAME * kept
        self._first_frame += frames - kept
        self._mel, self._source, self._held_back = mel[:, -kept:].copy(), source[-hold:].copy(), waveform[-hold:].copy()
        return waveform[:-hold]

    def close(self) -> None:
        """Free the caches."""
        self._mel = None
        self._source = self._held_back = np.empty(0, dtype=np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the caches; at most 8 frames, 3840 samples of source and 3840 of waveform."""
        return (0 if self._mel is None else self._mel.nbytes) + self._source.nbytes + self._held_back.nbytes
