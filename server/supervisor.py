"""tritonserver and the gateway as one whole: up in order, watched, repaired, down in order."""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from server import first_words, shared_memory
from server.backends import assemble
from server.console import say
from server.control import TritonError
from server.first_words import NoWords
from server.gateway import Gateway
from server.locate import Home
from server.recovery import GiveUp, Patience, StubWatch, is_engine, reload
from server.repository import read_repository
from server.settings import Settings
from server.tf32 import tf32_line
from server.triton import POLL, Interrupted, StartFailed, TritonServer, command, environment

WATCH_INTERVAL = 0.25
LIVE_INTERVAL = 5.0
LIVE_FAILURES = 3
T = TypeVar("T")


class Supervisor:
    """Runs the whole system until it is told to stop.

    Args:
        settings: what to run.
        home: the tritonserver to run it with.
    """

    def __init__(self, settings: Settings, home: Home):
        self._settings = settings
        self._home = home
        self._stop = threading.Event()
        self._force = threading.Event()

    def request_stop(self) -> None:
        """Begin to stop; a second call stops waiting for requests under way. Safe in a signal handler."""
        if self._stop.is_set():
            self._force.set()
        self._stop.set()

    def run(self) -> int:
        """Bring everything up, keep it up, and return the exit code once nothing is left running."""
        if freed := shared_memory.remove_litter():
            say(f"removed {freed / 1e6:.0f} MB that a killed run left in shared memory")
        with tempfile.TemporaryDirectory(prefix="stepaudio_") as work:
            self._prefix = shared_memory.Prefix()
            self._set_up(Path(work))
            try:
                self._bring_up()
                if not self._settings.once:
                    self._watch()
            except Interrupted:
                return 0
            except (StartFailed, GiveUp) as error:
                say(f"stopping: {error}")
                return 1
            finally:
                self._shut_down()
        return 0

    def _set_up(self, work: Path) -> None:
        repository = read_repository(self._settings.model_repository)
        self._models = [model.name for model in repository if not model.left_out]
        self._left_out = [model.name for model in repository if model.left_out]
        self._ensembles = first_words.ensembles(self._models)
        variables = environment(self._home, os.environ)
        backends = assemble(self._home, work / "backends")
        line = command(self._settings, self._home, self._models, backends, self._prefix.name)
        self._triton = TritonServer(self._settings, line, variables, self._models, self._stop)
        self._gateway = Gateway(self._settings, variables, self._stop)
        self._triton_patience = Patience(self._settings.restarts)
        self._gateway_patience = Patience(self._settings.restarts)

    def _bring_up(self) -> None:
        started = time.monotonic()
        if self._left_out:
            say(f"not exported, so not served: {', '.join(self._left_out)}")
        say(f"starting tritonserver of {self._home.name} with {len(self._models)} models")
        say(tf32_line(os.environ))
        self._start_triton()
        if self._settings.gateway:
            say("starting the gateway")
            self._gateway.start()
        if self._ensembles:
            self._first_words()
        say(f"ready after {time.monotonic() - started:.1f} s; Ctrl-C stops everything")

    def _start_triton(self) -> None:
        self._triton.start()
        assert self._triton.pid is not None  # noqa: S101 - it has just been started
        self._stubs = StubWatch(self._triton.pid)
        if self._ensembles:
            say("all models loaded, warming up")
            try:
                self._wait_for(self._warm_up)
                self._uncount_voices()
            except TritonError as error:
                raise StartFailed(f"the warm-up request failed: {error}") from error

    def _warm_up(self) -> None:
        if first_words.VOICE_ENCODER in self._models:
            first_words.encode(self._triton.control)
        for ensemble in self._ensembles:
            first_words.through_triton(self._triton.control, ensemble, first_words.WARM_UP)
            if first_words.STREAM in self._models:
                first_words.through_stream(self._triton.control, ensemble, first_words.WARM_UP)

    def _first_words(self) -> None:
        started = time.monotonic()
        text, url, path = first_words.FIRST_WORDS, self._settings.url, self._settings.first_words
        try:
            if self._settings.gateway:
                words = self._wait_for(lambda: first_words.through_gateway(url, text))
            else:
                speaker = self._ensembles[0]
                words = self._wait_for(lambda: first_words.through_triton(self._triton.control, speaker, text))
            self._uncount_voices()
        except (NoWords, TritonError) as error:
            raise StartFailed(f"the first words were not spoken: {error}") from error
        spent = time.monotonic() - started
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(words.content)
        say(f'"{text}": {words.seconds:.2f} s of speech in {spent:.2f} s, in {path.absolute()}')
        if first_words.has_random_weights(self._settings.model_repository):
            say("these are the demo checkpoint's random weights: expect noise, not words")
        if self._settings.gateway:
            say(f"gateway: {url} (documentation at {url}/docs)\n{first_words.curl_line(url)}")

    def _uncount_voices(self) -> None:
        """Let the voice cache begin to count: what was asked here is nobody's hit or miss."""
        if first_words.VOICE_ENCODER in self._models:
            self._wait_for(lambda: first_words.uncount(self._triton.control))

    def _wait_for(self, work: Callable[[], T]) -> T:
        """Run `work`, a request that may take minutes, while looking after signals and dead processes."""
        result: list[T | BaseException] = []

        def run() -> None:
            try:
                result.append(work())
            except BaseException as error:
                result.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            if self._stop.wait(POLL):
                raise Interrupted
            if self._triton.exit_code is not None:
                raise StartFailed(f"tritonserver ended with code {self._triton.exit_code}")
            if lost := self._stubs.lost():
                raise StartFailed(f"the process of {', '.join(sorted(lost))} died")
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    def _watch(self) -> None:
        live_failures, next_live = 0, time.monotonic() + LIVE_INTERVAL
        while not self._stop.wait(WATCH_INTERVAL):
            if self._triton.exit_code is not None:
                self._restart_triton(f"tritonserver ended with code {self._triton.exit_code}")
            elif lost := self._stubs.lost():
                self._repair(lost)
            if time.monotonic() >= next_live:
                live_failures = 0 if self._triton.control.live() else live_failures + 1
                next_live = time.monotonic() + LIVE_INTERVAL
                if live_failures == LIVE_FAILURES:
                    live_failures = 0
                    self._restart_triton("tritonserver does not answer")
            if self._settings.gateway and self._gateway.exit_code is not None:
                self._restart_gateway(f"the gateway ended with code {self._gateway.exit_code}")
        raise Interrupted

    def _repair(self, lost: set[str]) -> None:
        control = self._triton.control
        try:
            # A model that someone unloaded on purpose was to lose its process.
            dead = sorted(model for model in lost if control.state(model) == "READY")
            if engines := [model for model in dead if is_engine(model)]:
                self._restart_triton(f"the process of {', '.join(engines)} died, and its callers with it")
                return
            for model in dead:
                say(f"the process of {model} died: loading it anew")
                if not reload(control, model):
                    self._restart_triton(f"{model} died with requests that Triton still waits for")
                    return
                say(f"{model} is back")
        except TritonError as error:
            self._restart_triton(f"the process of {', '.join(sorted(lost))} died: {error}")

    def _restart_triton(self, reason: str) -> None:
        started = time.monotonic()
        while True:
            say(f"restarting tritonserver: {reason}")
            # Killed first, so that callers hear UNAVAILABLE now and not after the delay.
            self._triton.kill()
            self._prefix.clear()
            if self._stop.wait(self._triton_patience.failed(reason, time.monotonic())):
                raise Interrupted
            try:
                self._start_triton()
            except StartFailed as error:
                reason = str(error)
                continue
            self._triton_patience.recovered(time.monotonic())
            say(f"serving again after {time.monotonic() - started:.1f} s")
            return

    def _restart_gateway(self, reason: str) -> None:
        while True:
            say(f"restarting the gateway: {reason}")
            if self._stop.wait(self._gateway_patience.failed(reason, time.monotonic())):
                raise Interrupted
            try:
                self._gateway.start()
            except StartFailed as error:
                reason = str(error)
                continue
            self._gateway_patience.recovered(time.monotonic())
            return

    def _shut_down(self) -> None:
        # The gateway holds the callers: it goes first and lets them finish.
        self._gateway.stop(self._force.is_set)
        self._triton.stop(self._force.is_set)
        self._prefix.release()
        say("stopped; no process and no shared memory left")
