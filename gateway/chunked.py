"""Speech in pieces, each ready to be sent, at a rate of the caller's choice."""

from typing import Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from client.speech import Clip
from gateway.encoding import StreamEncoder, encode
from gateway.form_schemas import ChunkFormat


class Writer(Protocol):
    """Turns speech that comes piece by piece into bytes; `encoding.StreamEncoder` is one."""

    def write(self, waveform: NDArray[np.float32]) -> bytes:
        """Return what samples [N] give so far."""
        ...

    def close(self) -> bytes:
        """Return the end."""
        ...


class WavFiles:
    """Makes every piece a complete WAV file.

    Args:
        rate: Hz of the pieces.
    """

    def __init__(self, rate: int):
        self._rate = rate

    def write(self, waveform: NDArray[np.float32]) -> bytes:
        """Return samples [N] as a file, none for none."""
        return encode(Clip(waveform, self._rate), "wav") if len(waveform) else b""

    def close(self) -> bytes:
        """Return nothing: the last file has been given."""
        return b""


class Resampled:
    """Resamples what goes to another writer (soxr, high quality).

    Args:
        rate: Hz of the pieces.
        new_rate: Hz that `writer` expects.
    """

    def __init__(self, writer: Writer, rate: int, new_rate: int):
        self._writer = writer
        self._resampler = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")

    def write(self, waveform: NDArray[np.float32]) -> bytes:
        """Return what samples [N] give so far."""
        return self._writer.write(self._resampler.resample_chunk(waveform))

    def close(self) -> bytes:
        """Return the end."""
        rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        return self._writer.write(rest) + self._writer.close()


def chunk_writer(chunk_format: ChunkFormat, rate: int, new_rate: int) -> Writer:
    """Return what turns pieces at `rate` into chunks at `new_rate`."""
    writer = WavFiles(new_rate) if chunk_format == "wav-chunks" else StreamEncoder(chunk_format, new_rate)
    return Resampled(writer, rate, new_rate)
