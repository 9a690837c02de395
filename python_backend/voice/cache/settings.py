"""What can be chosen about the voice cache."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CacheSettings:
    """The `parameters` of `voice_encoder/config.pbtxt`, each of which an environment variable `VOICE_…` overrides.

    Attributes:
        cache: `on` or `off`. Off: every clip is encoded, and answers carry no key.
        cache_dir: folder on this machine; empty: `step-audio-triton/voices` under `$XDG_CACHE_HOME` or `~/.cache`.
        cache_entries: voices kept on disk, and in memory, at most.
        cache_memory_bytes: of the arrays in memory.
        cache_redis_url: a Redis that several servers share; empty: none. Needs the Python package `redis`.
    """

    cache: str = "on"
    cache_dir: str = ""
    cache_entries: int = 1000
    cache_memory_bytes: int = 256 * 1024 * 1024
    cache_redis_url: str = ""

    @classmethod
    def read(cls, parameters: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> "CacheSettings":
        """Take what the environment says, else the model's parameters, else the defaults.

        Raises:
            ValueError: a value is none that it may have; names it.
        """

        def text(name: str, default: str) -> str:
            return environment.get(f"VOICE_{name.upper()}", parameters.get(name, default))

        def number(name: str, default: int) -> int:
            value = text(name, str(default))
            if not value.isdecimal():
                raise ValueError(f"{name}: must be a whole number, is {value!r}")
            return int(value)

        cache = text("cache", cls.cache)
        if cache not in ("on", "off"):
            raise ValueError(f"cache: must be on or off, is {cache!r}")
        return cls(
            cache=cache,
            cache_dir=text("cache_dir", cls.cache_dir),
            cache_entries=number("cache_entries", cls.cache_entries),
            cache_memory_bytes=number("cache_memory_bytes", cls.cache_memory_bytes),
            cache_redis_url=text("cache_redis_url", cls.cache_redis_url),
        )

    @property
    def folder(self) -> Path:
        """Where voices lie on disk.

        Raises:
            RuntimeError: it is under the home folder, and this user has none.
        """
        if self.cache_dir:
            return Path(self.cache_dir).expanduser()
        home = os.environ.get("XDG_CACHE_HOME")
        return (Path(home) if home else Path.home() / ".cache") / "step-audio-triton" / "voices"
