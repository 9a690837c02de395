import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import decoder as decoder_module
from gateway.audio import UnusableAudio
from gateway.decoder import Decoder
from tests.gateway.helpers import tone_wav

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(processes=2)
    yield decoder
    decoder.close()


def workers(decoder: Decoder) -> list[int]:
    assert decoder._pool is not None
    return list(decoder._pool._processes)


async def test_processes_decode_and_refuse(decoder: Decoder) -> None:
    clips = await asyncio.gather(*(decoder.decode(tone_wav(seconds=seconds), 10.0) for seconds in (1, 2, 3)))
    assert [clip.seconds for clip in clips] == [1, 2, 3]
    with pytest.raises(UnusableAudio, match="damaged"):
        await decoder.decode(b"nonsense", 10.0)
    with pytest.raises(UnusableAudio, match="longer"):
        await decoder.decode(tone_wav(seconds=2), 1.0)


async def test_a_dead_process_costs_nobody_else(decoder: Decoder) -> None:
    await decoder.decode(tone_wav(), 10.0)
    os.kill(workers(decoder)[0], signal.SIGKILL)
    clips = await asyncio.gather(*(decoder.decode(tone_wav(), 10.0) for _ in range(4)))
    assert [clip.seconds for clip in clips] == [1.0] * 4


async def test_a_clip_that_crashes_the_decoder_is_refused(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "_decode", _crash)
    with pytest.raises(UnusableAudio, match="crashes"):
        await decoder.decode(tone_wav(), 10.0)
    monkeypatch.undo()
    assert (await decoder.decode(tone_wav(), 10.0)).seconds == 1.0


def _crash(data: bytes, max_seconds: float) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_no_process_outlives_the_gateway() -> None:
    code = """
import asyncio
from gateway.decoder import Decoder
from tests.gateway.helpers import tone_wav
async def main():
    decoder = Decoder(1)
    await decoder.decode(tone_wav(), 10.0)
    print(*decoder._pool._processes, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and "\nState:\tZ" not in Path(f"/proc/{worker}/status").read_text():
        assert time.monotonic() < deadline, "the worker is still there"
        time.sleep(0.05)
