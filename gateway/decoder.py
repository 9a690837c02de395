"""Decoding at arm's length: a recording that crashes or stalls FFmpeg costs a worker, not the service."""

import asyncio
import multiprocessing
import resource
import signal
from multiprocessing.connection import Connection

from anyio import CapacityLimiter, to_thread

from client.speech import Clip
from gateway.audio import UnusableAudio, decode

_STALLED_SECONDS = 45.0
_MEMORY_BYTES = 4 * 1024**3


class Decoder:
    """Turns bytes into clips in a few processes of its own, or in threads.

    Args:
        processes: how many; 0 decodes in threads, which suits tests and trusted callers.
    """

    def __init__(self, processes: int):
        self._in_threads = processes == 0
        self._turns = asyncio.Semaphore(processes or 2)
        self._threads = CapacityLimiter(processes or 2)
        self._idle: list[_Worker] = []

    async def decode(self, data: bytes, max_seconds: float, rate: int | None = None) -> Clip:
        """Decode one recording, at `rate` where that is given.

        Raises:
            UnusableAudio: see `gateway.audio.decode`; also when decoding crashed or stalled.
        """
        async with self._turns:
            if self._in_threads:
                return await to_thread.run_sync(decode, data, max_seconds, rate, limiter=self._threads)
            return await to_thread.run_sync(self._decode_apart, data, max_seconds, rate, limiter=self._threads)

    def close(self) -> None:
        """End the processes."""
        while self._idle:
            self._idle.pop().end()

    def _decode_apart(self, data: bytes, max_seconds: float, rate: int | None) -> Clip:
        worker = self._take()
        try:
            answer = worker.ask(data, max_seconds, rate)
        except BaseException:
            worker.end()
            raise
        self._idle.append(worker)
        if isinstance(answer, str):
            raise UnusableAudio(answer)
        return answer

    def _take(self) -> "_Worker":
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.end()
        return _Worker()


class _Worker:
    """One process that decodes clip after clip."""

    def __init__(self) -> None:
        # Not `fork`: the gateway has threads, whose locks a fork would freeze.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["gateway.audio"])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self._process.is_alive()

    def ask(self, data: bytes, max_seconds: float, rate: int | None) -> Clip | str:
        """Return the clip, or why there is none.

        Raises:
            UnusableAudio: the process died or stalled over it.
        """
        try:
            self._pipe.send((data, max_seconds, rate))
            if not self._pipe.poll(_STALLED_SECONDS):
                raise UnusableAudio("it stalls the decoder")
            answer: Clip | str = self._pipe.recv()
        except (EOFError, OSError):
            raise UnusableAudio("it crashes the decoder") from None
        return answer

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection) -> None:
    """Answer requests until the gateway is gone. Ctrl-C in a terminal is the gateway's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            data, max_seconds, rate = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(decode(data, max_seconds, rate))
        except UnusableAudio as error:
            pipe.send(str(error))
