"""Work that several ask for at once is done once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs work by key; whoever comes while it runs waits for its result, or its exception."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[str, Future[T]] = {}

    def run(self, key: str, work: Callable[[], T]) -> T:
        """Return what `work` gives, or what another call's gives that is under way."""
        mine: Future[T] = Future()
        with self._lock:
            flying = self._flying.setdefault(key, mine)
        if flying is not mine:
            return flying.result()
        try:
            mine.set_result(work())
        except BaseException as error:
            mine.set_exception(error)
        with self._lock:
            del self._flying[key]
        return mine.result()
