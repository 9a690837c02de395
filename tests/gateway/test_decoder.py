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


async def test_processes_decode_and_refuse(decoder: Decoder) -> None:
    clips = await asyncio.gather(*(decoder.decode(tone_wav(seconds=seconds), 10.0) for seconds in (1, 2, 3)))
    assert [clip.seconds for clip in clips] == [1, 2, 3]
    with pytest.raises(UnusableAudio, match="damaged"):
        await decoder.decode(b"nonsense", 10.0)
    with pytest.raises(UnusableAudio, match="longer"):
        await decoder.decode(tone_wav(seconds=2), 1.0)


async def test_processes_are_kept_and_ended(decoder: Decoder) -> None:
    for _ in range(3):
        await decoder.decode(tone_wav(), 10.0)
    (worker,) = decoder._idle
    decoder.close()
    assert not worker._process.is_alive()


async def test_a_process_that_died_idle_is_replaced(decoder: Decoder) -> None:
    await decoder.decode(tone_wav(), 10.0)
    process = decoder._idle[0]._process
    process.kill()
    process.join()
    assert (await decoder.decode(tone_wav(), 10.0)).seconds == 1.0


async def test_a_clip_that_kills_its_process_is_refused_and_nobody_else_suffers(decoder: Decoder) -> None:
    await asyncio.gather(*(decoder.decode(tone_wav(), 10.0) for _ in range(2)))
    victim = decoder._idle[-1]._process.pid
    assert victim is not None
    os.kill(victim, signal.SIGSTOP)
    doomed = asyncio.ensure_future(decoder.decode(tone_wav(), 10.0))
    await asyncio.sleep(0.1)
    others = [asyncio.ensure_future(decoder.decode(tone_wav(), 10.0)) for _ in range(3)]
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(UnusableAudio, match="crashes"):
        await doomed
    assert [clip.seconds for clip in await asyncio.gather(*others)] == [1.0] * 3


async def test_a_clip_that_stalls_is_given_up(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    await decoder.decode(tone_wav(), 10.0)
    (worker,) = decoder._idle
    assert worker._process.pid is not None
    os.kill(worker._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(decoder_module, "_STALLED_SECONDS", 0.2)
    with pytest.raises(UnusableAudio, match="stalls"):
        await decoder.decode(tone_wav(), 10.0)
    assert not worker._process.is_alive()
    monkeypatch.undo()
    assert (await decoder.decode(tone_wav(), 10.0)).seconds == 1.0


def test_no_process_outlives_the_gateway() -> None:
    code = """
import asyncio
from gateway.decoder import Decoder
from tests.gateway.helpers import tone_wav
async def main():
    decoder = Decoder(1)
    await decoder.decode(tone_wav(), 10.0)
    print(decoder._idle[0]._process.pid, flush=True)
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
