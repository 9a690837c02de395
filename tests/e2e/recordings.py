"""Recordings to send, and decoders that are not the one that made what is decoded."""

import io
import wave
from itertools import count, takewhile
from pathlib import Path

import av
import numpy as np
import soundfile

VOICES = Path(__file__).resolve().parents[2] / "gateway" / "assets" / "voices"

_SAMPLES_IN_AAC_FRAME = 1024
_AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


def recording(voice: str) -> bytes:
    """A built-in voice's WAV."""
    return (VOICES / f"{voice}.wav").read_bytes()


def seconds_of(wav: bytes) -> float:
    with wave.open(io.BytesIO(wav)) as file:
        return file.getnframes() / file.getframerate()


def decoded(body: bytes, file_format: str) -> tuple[np.ndarray, int]:
    """Mono samples and the rate that was encoded, by libsndfile; it has no AAC, so that is walked frame by frame."""
    if file_format == "pcm":
        return np.frombuffer(body, "<i2").astype(np.float32) / 32768, 24_000
    if file_format == "aac":
        return _decoded_aac(body)
    with soundfile.SoundFile(io.BytesIO(body)) as file:
        kind = {"wav": "WAV", "mp3": "MP3", "flac": "FLAC", "opus": "OGG"}[file_format]
        assert (file.format, file.channels) == (kind, 1)
        # A stream's header tells no length: read block by block, without the seek to where a block should have ended.
        file.seekable = lambda: False
        waveform = np.concatenate(list(takewhile(len, (file.read(24_000, dtype="float32") for _ in count()))))
        return waveform, file.samplerate


def _decoded_aac(body: bytes) -> tuple[np.ndarray, int]:
    """Check every ADTS header (ISO/IEC 14496-3, 1.A.2.2), then let FFmpeg turn the frames into samples."""
    place = frames = 0
    while place < len(body):
        header = body[place : place + 7]
        assert header[0] == 0xFF
        assert header[1] & 0xF6 == 0xF0
        rate = _AAC_RATES[header[2] >> 2 & 0xF]
        assert (header[2] & 1) << 2 | header[3] >> 6 == 1, "mono"
        place += (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        frames += 1
    assert place == len(body), "the last frame is whole"
    with av.open(io.BytesIO(body)) as file:
        waveform = np.concatenate([frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)])
    assert len(waveform) == frames * _SAMPLES_IN_AAC_FRAME
    return waveform, rate
