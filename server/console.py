"""What the launcher and its children say, line by line, each line with its speaker in front."""

import contextlib
import threading
import time

_lock = threading.Lock()


def say(text: str, speaker: str = "server") -> None:
    """Print `text`; every line of it gets the time and the speaker in front."""
    # Serving goes on when whoever read our output is gone; a child that cannot be heard would block.
    with _lock, contextlib.suppress(BrokenPipeError):
        for line in text.splitlines() or [""]:
            print(f"{time.strftime('%H:%M:%S')} {speaker:>7} | {line}", flush=True)
