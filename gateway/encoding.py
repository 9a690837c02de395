"""Speech as bytes, in the six formats of OpenAI's audio API."""

import io
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import av
import numpy as np
from numpy.typing import NDArray

from client.speech import Clip

AudioFormat = Literal["wav", "mp3", "flac", "opus", "aac", "pcm"]


# Reproducible files, and every packet handed on at once; of Ogg, which collects packets in pages, every 0.04 s.
_CONTAINER_OPTIONS = {"fflags": "+bitexact", "flush_packets": "1"}
_MUXER_OPTIONS = {"ogg": {"page_duration": "40000"}}


class Writable(Protocol):
    """Takes bytes; a `seek` method is optional."""

    def write(self, data: bytes, /) -> int:
        """Take `data`."""
        ...


@dataclass(frozen=True)
class Codec:
    """How one format is written: FFmpeg's muxer and encoder, and the type HTTP calls it."""

    content_type: str
    muxer: str
    encoder: str
    bit_rate: int | None = None
    options: dict[str, str] = field(default_factory=dict)


CODECS: dict[AudioFormat, Codec] = {
    "wav": Codec("audio/wav", "wav", "pcm_s16le"),
    "mp3": Codec("audio/mpeg", "mp3", "libmp3lame", 96_000),
    "flac": Codec("audio/flac", "flac", "flac"),
    "opus": Codec("audio/opus", "ogg", "libopus", 48_000, {"application": "voip"}),
    "aac": Codec("audio/aac", "adts", "aac", 96_000),
    "pcm": Codec("audio/pcm", "s16le", "pcm_s16le"),
}


def pcm16(waveform: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return samples in [-1, 1] as 16-bit integers; louder ones are clipped, never wrapped."""
    integers: NDArray[np.int16] = np.rint(np.clip(waveform, -1.0, 1.0) * 32767.0).astype(np.int16)
    return integers


def encode(clip: Clip, audio_format: AudioFormat) -> bytes:
    """Return a complete file, its header's lengths true. Blocks: call it in a thread."""
    file = io.BytesIO()
    encoder = Encoder(audio_format, clip.sample_rate, file)
    encoder.write(clip.waveform)
    encoder.close()
    return file.getvalue()


class Encoder:
    """Writes one file piece by piece.

    Args:
        rate: Hz of what will be written.
        file: takes the bytes. Without `seek`, headers that state a length stay open-ended.
    """

    def __init__(self, audio_format: AudioFormat, rate: int, file: Writable):
        codec = CODECS[audio_format]
        self._rate = rate
        options = _CONTAINER_OPTIONS | _MUXER_OPTIONS.get(codec.muxer, {})
        self._container = av.open(file, "w", format=codec.muxer, container_options=options)
        track = self._container.add_stream(codec.encoder, rate=rate, layout="mono", options=codec.options)
        self._track = cast(av.AudioStream, track)
        if codec.bit_rate:
            self._track.bit_rate = codec.bit_rate

    def write(self, waveform: NDArray[np.float32]) -> None:
        """Encode samples [N] in [-1, 1]; what the codec has no whole frame for yet, it keeps."""
        frame = av.AudioFrame.from_ndarray(pcm16(waveform)[None], format="s16", layout="mono")
        frame.sample_rate = self._rate
        self._container.mux(self._track.encode(frame))

    def close(self) -> None:
        """Write what the codec still holds and the end of the file."""
        self._container.mux(self._track.encode(None))
        self._container.close()


class StreamEncoder:
    """Gives one file piece by piece; its lengths stay open-ended.

    Args:
        rate: Hz of what will be written.
    """

    def __init__(self, audio_format: AudioFormat, rate: int):
        self._sink = _Sink()
        self._encoder = Encoder(audio_format, rate, self._sink)

    def write(self, waveform: NDArray[np.float32]) -> bytes:
        """Return what encoding samples [N] gives so far."""
        if len(waveform):
            self._encoder.write(waveform)
        return self._sink.take()

    def close(self) -> bytes:
        """Return the end of the file."""
        self._encoder.close()
        return self._sink.take()


class _Sink:
    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes, /) -> int:
        self._bytes += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken
