"""The files Triton's Python models leave in /dev/shm, and whose they are.

A killed model process leaves its regions behind, up to gigabytes of memory. Every instance therefore names its regions
with a prefix of its own and holds a lock on a file beside them for as long as it lives: the kernel drops the lock
however the instance ends, so an unlocked prefix is litter. Process ids would not tell: containers may share /dev/shm.
"""

import fcntl
import os
import re
import uuid
from pathlib import Path
from typing import IO

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives, not a temporary file
LOCK = re.compile(r"(stepaudio_[0-9]+_[0-9a-f]{6}_)lock")


class Prefix:
    """This instance's name in /dev/shm, from its creation to `release`."""

    def __init__(self, folder: Path = FOLDER):
        self._folder = folder
        self.name = f"stepaudio_{os.getpid()}_{uuid.uuid4().hex[:6]}_"
        # The name appears with the lock already held, else another instance could take it for litter.
        unlocked = folder / f"{self.name}new"
        self._lock: IO[str] | None = unlocked.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unlocked.rename(folder / f"{self.name}lock")

    def clear(self) -> None:
        """Remove the regions of this instance; call it only while none of its model processes runs."""
        for path in self._folder.glob(f"{self.name}*"):
            if path.name != f"{self.name}lock":
                path.unlink(missing_ok=True)

    def release(self) -> None:
        """Remove everything this instance has in /dev/shm."""
        self.clear()
        if self._lock is not None:
            (self._folder / f"{self.name}lock").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None


def remove_litter(folder: Path = FOLDER) -> int:
    """Remove what dead instances of this project left in `folder` and return its size in bytes."""
    freed = 0
    for path in folder.iterdir():
        if (match := LOCK.fullmatch(path.name)) is None:
            continue
        try:
            with path.open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The lock file goes last: an interrupted clean-up is taken up again by the next start.
                for region in sorted(folder.glob(f"{match[1]}*"), key=lambda region: region.name == path.name):
                    size = region.stat().st_size
                    region.unlink()
                    freed += size
        except (BlockingIOError, PermissionError, FileNotFoundError):
            continue  # alive, another user's, or another start is removing it right now
    return freed
