"""Where the command line puts speech: a file or the standard output, all at once or as it comes."""

import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

STDOUT = Path("-")
_UNKNOWN = 0xFFFFFFFF  # a length that the header comes too early for

Append = Callable[[NDArray[np.float32]], None]


@contextmanager
def opened(out: Path, sample_rate: int, *, raw: bool) -> Iterator[Append]:
    """Give a function that appends samples [N] in [-1, 1] to `out`; they have left when it returns.

    Args:
        out: `-` for the standard output, as WAV of unknown length; else a file whose ending decides.
        sample_rate: Hz.
        raw: 16-bit little-endian samples and nothing else.
    """
    if out == STDOUT:
        sys.stdout.buffer.write(b"" if raw else wav_header(sample_rate))
        yield _appending(sys.stdout.buffer)
    elif raw:
        with out.open("wb") as file:
            yield _appending(file)
    else:
        with soundfile.SoundFile(out, "w", sample_rate, channels=1) as sound:

            def append(waveform: NDArray[np.float32]) -> None:
                sound.write(waveform)
                sound.flush()

            yield append


def wav_header(sample_rate: int) -> bytes:
    """Return the header of 16-bit mono WAV that is as long as its stream lasts."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", _UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", _UNKNOWN)


def _appending(file: BinaryIO) -> Append:
    def append(waveform: NDArray[np.float32]) -> None:
        file.write(np.rint(np.clip(waveform, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
        file.flush()

    return append
