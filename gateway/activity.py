"""What the service has done lately, in lines for people who watch it."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from gateway.errors import ApiError

KEPT = 100


class Activity:
    """The last lines, each `[HH:MM:SS] text` in local time. They hold no words that anybody sent to be spoken."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT)

    def say(self, text: str) -> None:
        """Add a line."""
        self._lines.append(f"[{datetime.now().astimezone():%H:%M:%S}] {' '.join(text.split())}")

    def last(self, limit: int) -> list[str]:
        """Return the last `limit` lines, the oldest first."""
        return list(self._lines)[-limit:]

    def clear(self) -> None:
        """Drop all lines but one that says so."""
        self._lines.clear()
        self.say("cleared")

    @contextmanager
    def failures_of(self, work: str) -> Iterator[None]:
        """Say how `work` fails, if it does."""
        try:
            yield
        except ApiError as error:
            self.say(f"{work} failed: {error.message}")
            raise
        except asyncio.CancelledError:
            self.say(f"{work} given up: nobody waits for it")
            raise
