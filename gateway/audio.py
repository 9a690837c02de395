"""Recordings as people send them, turned into what the models take."""

import base64
import binascii
import io
import time
from itertools import chain

import av
import numpy as np
import soxr
from av.error import FFmpegError
from numpy.typing import NDArray

from client.speech import Clip

OUTPUT_RATE = 24_000
LOWEST_MODEL_RATE = 16_000
HIGHEST_MODEL_RATE = 192_000
_LOWEST_RATE, _HIGHEST_RATE = 4_000, 768_000
_DECODE_SECONDS = 30.0

# Demuxers that read only the bytes they are given. Playlists (hls, dash, concat, …) would open further files and URLs.
_CONTAINERS = (
    "wav,w64,rf64,aiff,caf,au,flac,ogg,mp3,aac,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,amr,amrnb,amrwb,ac3,eac3,"
    "mpegts,mpeg,wv,tta,ape,flv,gsm,dts,voc"
)
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}


class UnusableAudio(ValueError):
    """The bytes are no recording the models can use; the message says why."""


def from_base64(text: str) -> bytes:
    """Return the bytes of base64 or of a `data:` URI; URL-safe letters, line breaks and missing padding are fine.

    Raises:
        UnusableAudio: it is neither.
    """
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise UnusableAudio("a data: URI must be written as data:<type>;base64,<data>")
    letters = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableAudio("this is not base64") from error


def decode(data: bytes, max_seconds: float, rate: int | None = None) -> Clip:
    """Decode any container and codec FFmpeg reads, average its channels, bring its rate into the models' range.

    Blocks for as long as decoding takes: call it in a thread.

    Args:
        data: the file.
        max_seconds: its longest length.
        rate: what to resample to on the way, in Hz: saves memory where a long recording is wanted at a low rate.

    Raises:
        UnusableAudio: it is empty, damaged, longer than `max_seconds`, or has no sound.
    """
    if not data:
        raise UnusableAudio("it is empty")
    try:
        waveform, found_rate = _decode_mono(data, max_seconds, rate)
    except (FFmpegError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, UnusableAudio):
            raise
        raise UnusableAudio("it is damaged or in no known audio format") from error
    if not len(waveform):
        raise UnusableAudio("it holds no sound")
    if not np.isfinite(waveform).all():
        raise UnusableAudio("it holds NaN or infinite samples")
    return within_model_rates(Clip(waveform, found_rate))


def within_model_rates(clip: Clip) -> Clip:
    """Return `clip` at its own rate where the models take that, else at the nearest rate they take."""
    rate = min(max(clip.sample_rate, LOWEST_MODEL_RATE), HIGHEST_MODEL_RATE)
    return resample(clip, rate)


def resample(clip: Clip, rate: int) -> Clip:
    """Return `clip` at `rate` Hz (soxr, high quality)."""
    if clip.sample_rate == rate:
        return clip
    waveform = soxr.resample(clip.waveform, clip.sample_rate, rate, quality="HQ")
    return Clip(np.asarray(waveform, np.float32), rate)


def _decode_mono(data: bytes, max_seconds: float, wanted_rate: int | None) -> tuple[NDArray[np.float32], int]:
    deadline = time.monotonic() + _DECODE_SECONDS
    with av.open(io.BytesIO(data), mode="r", options=_OPTIONS, metadata_errors="replace") as container:
        if not container.streams.audio:
            raise UnusableAudio("it has no audio track")
        track = container.streams.audio[0]
        codec = track.codec_context
        if codec is None:
            raise UnusableAudio("its codec is unknown")
        rate = codec.sample_rate
        if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
            raise UnusableAudio(f"its sample rate is {rate} Hz; {_LOWEST_RATE} to {_HIGHEST_RATE} Hz can be read")
        # Interleaved, because PyAV 18 reads past the planes of frames with eight planar channels and crashes.
        interleaved = av.AudioResampler(format="flt", rate=wanted_rate)
        rate = wanted_rate or rate
        pieces: list[NDArray[np.float32]] = []
        samples = 0
        for frame in chain(container.decode(track), [None]):  # the last one empties the resampler
            for piece in interleaved.resample(frame):
                if piece.sample_rate != rate:
                    raise UnusableAudio("its sample rate changes on the way")
                channels = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
                pieces.append(channels.mean(axis=1, dtype=np.float32))
                samples += piece.samples
            if samples > max_seconds * rate:
                raise UnusableAudio(f"it is longer than {max_seconds:g} s")
            if time.monotonic() > deadline:
                raise UnusableAudio(f"decoding it took longer than {_DECODE_SECONDS:g} s")
    return (np.concatenate(pieces) if pieces else np.zeros(0, np.float32)), rate
