"""Damaged recordings of every kind: each is a clip or the caller's fault, and nothing is left behind."""

import base64
import io
import random
import resource
import tempfile
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
import soundfile

from client.speech import Clip
from gateway.encoding import CODECS, encode, pcm16
from tests.gateway.conftest import FakeBackend
from tests.gateway.helpers import SPEECH

pytestmark = pytest.mark.anyio

TONE = (0.3 * np.sin(np.arange(24_000) / 9)).astype(np.float32)


def whole_files() -> list[bytes]:
    files = [encode(Clip(TONE, 24_000), name) for name in CODECS if name != "pcm"]
    kinds = [("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("OGG", "VORBIS"), ("WAV", "PCM_24")]
    for kind, subtype in [*kinds, ("WAV", "ALAW"), ("WAV", "IMA_ADPCM"), ("W64", "PCM_16")]:
        file = io.BytesIO()
        soundfile.write(file, np.stack([TONE, TONE], axis=1), 24_000, format=kind, subtype=subtype)
        files.append(file.getvalue())
    for muxer, codec in [
        ("mp4", "aac"),
        ("webm", "libopus"),
        ("mov", "pcm_s16le"),
        ("avi", "libmp3lame"),
        ("mpegts", "aac"),
    ]:
        file = io.BytesIO()
        with av.open(file, "w", format=muxer) as container:
            track = container.add_stream(codec, rate=48_000 if codec == "libopus" else 24_000, layout="mono")
            frame = av.AudioFrame.from_ndarray(pcm16(TONE)[None], format="s16", layout="mono")
            frame.sample_rate = 24_000
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
        files.append(file.getvalue())
    return files


def mutated(files: list[bytes], chance: random.Random) -> bytes:
    data = bytearray(chance.choice(files))
    match chance.randrange(4):
        case 0 | 1:
            for _ in range(chance.randint(1, 30)):
                data[int(chance.random() ** 2 * len(data))] = chance.randrange(256)
        case 2:
            del data[chance.randint(0, len(data)) :]
        case _:
            other, place = chance.choice(files), chance.randint(0, len(data))
            data[place:] = other[chance.randint(0, len(other)) :]
    return bytes(data)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.full)])
async def test_damaged_recordings(
    http: httpx.AsyncClient, backend: FakeBackend, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files, chance, statuses = whole_files(), random.Random(count), []
    for number in range(count):
        if number == count // 2:
            halfway = resident_bytes()
        data = mutated(files, chance)
        if number % 2:
            body = {"step_audio": {"mode": "denoise", "input_audio_base64": base64.b64encode(data).decode()}}
            answer = await http.post(SPEECH, json=body)
        else:
            payload = {"payload": '{"step_audio": {"mode": "denoise"}}'}
            answer = await http.post(f"{SPEECH}/upload", data=payload, files={"input_audio_file": ("clip", data)})
        statuses.append(answer.status_code)
        backend.jobs.clear()
        assert answer.status_code == 200 or answer.json()["error"]["code"] == "invalid_audio", answer.text
    assert set(statuses) == {200, 400}
    assert resident_bytes() - halfway < 16 * 2**20
    assert list(tmp_path.iterdir()) == []


async def test_whole_recordings_of_every_kind_are_read(http: httpx.AsyncClient) -> None:
    for data in whole_files():
        body = {"step_audio": {"mode": "denoise", "input_audio_base64": base64.b64encode(data).decode()}}
        assert (await http.post(SPEECH, json=body)).status_code == 200
