"""Decoding at arm's length: a recording that crashes or stalls FFmpeg costs a worker, not the service."""

import asyncio
import multiprocessing
import os
import resource
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from anyio import CapacityLimiter, to_thread

from client.speech import Clip
from gateway.audio import UnusableAudio, decode

_KILL_SECONDS = 45
_MEMORY_BYTES = 4 * 1024**3


class Decoder:
    """Turns bytes into clips in a few processes of its own, or in threads.

    Args:
        processes: how many; 0 decodes in threads, which suits tests and trusted callers.
    """

    def __init__(self, processes: int):
        self._processes = processes
        self._threads = CapacityLimiter(2)
        self._pool: ProcessPoolExecutor | None = None

    async def decode(self, data: bytes, max_seconds: float) -> Clip:
        """Decode one recording.

        Raises:
            UnusableAudio: see `gateway.audio.decode`; also when decoding crashed.
        """
        if not self._processes:
            return await to_thread.run_sync(decode, data, max_seconds, limiter=self._threads)
        if self._pool is None:
            self._pool = _pool(self._processes)
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, _decode, data, max_seconds)
        except BrokenProcessPool:
            # Whoever shared the pool with the culprit ends here too, so each goes on alone.
            if self._pool is pool:
                self._pool = None
            return await self._decode_alone(data, max_seconds)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    async def _decode_alone(data: bytes, max_seconds: float) -> Clip:
        pool = _pool(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, _decode, data, max_seconds)
        except BrokenProcessPool:
            raise UnusableAudio("it crashes the decoder") from None
        finally:
            pool.shutdown(wait=False)


def _pool(processes: int) -> ProcessPoolExecutor:
    # Not `fork`: the gateway has threads, whose locks a fork would freeze.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gateway.audio"])
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_confine)


def _confine() -> None:
    """Limit this process's memory, and let it die with its parent, not by the terminal's Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _decode(data: bytes, max_seconds: float) -> Clip:
    signal.alarm(_KILL_SECONDS)
    try:
        return decode(data, max_seconds)
    finally:
        signal.alarm(0)
