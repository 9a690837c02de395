"""Reading tritonserver's log: what a person should see, and which models have come up."""

import re

# Said on every machine without a GPU, or by every start, and never a reason to act.
HARMLESS = (
    "CudaDriverHelper has not been initialized",
    "unable to create stream for",
    "Failed to initialize NVML",
    "DCGM unable to start",
    "Unable to allocate pinned system memory",
    "Cannot get CUDA device",
    "failed to allocate pinned system memory",
    "CUDA memory pool disabled",
    "libtritonserver.so needs to be built with CUDA",
)
# glog's line: level and date, time, thread, source file and line. Python models log from .py files.
GLOG = re.compile(r"^(?P<level>[IWEF])\d{4} [\d:.]+ \d+ (?P<source>[\w./-]+):\d+\] (?P<text>.*)$")
TABLE = re.compile(r"^[+|]|^$")
LOADED = re.compile(r"successfully loaded '(?P<model>[^']+)'")
FAILED = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)")


def worth_showing(line: str) -> bool:
    """Tell whether a person who does not look for trouble wants to see this line.

    Models that failed to load are left to `LoadProgress`: the launcher names them at the end.
    """
    if TABLE.match(line) or FAILED.search(line) or any(text in line for text in HARMLESS):
        return False
    found = GLOG.match(line)
    return found is None or found["level"] != "I" or found["source"].endswith(".py")


class LoadProgress:
    """Which of `models` the log has reported loaded or failed so far."""

    def __init__(self, models: list[str]):
        self.waiting = dict.fromkeys(models)
        self.failures: dict[str, str] = {}

    def read(self, line: str) -> str | None:
        """Take one line of the log and return the model that it reports loaded, if any."""
        if (failed := FAILED.search(line)) is not None:
            self.failures[failed["model"]] = failed["reason"].strip('"').replace("\\n", "\n").strip()
        if (loaded := LOADED.search(line)) is not None and loaded["model"] in self.waiting:
            del self.waiting[loaded["model"]]
            return loaded["model"]
        return None
