"""What the gateway asks of whatever makes speech."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from client.speech import Clip, Mode, Sampling, SpeechJob, SpeechResult

__all__ = ["Backend", "Clip", "Mode", "Sampling", "SpeechJob", "SpeechResult"]


class Backend(Protocol):
    """Makes speech. `client.triton.TritonSpeech` is the real one.

    Every method may raise `client.errors.SpeechError`. A cancelled `synthesize` must stop its work, as must a closed
    `stream`.
    """

    async def synthesize(self, job: SpeechJob) -> SpeechResult:
        """Run one clone or one edit pass."""
        ...

    def stream(self, job: SpeechJob) -> AsyncGenerator[SpeechResult, None]:
        """Do the same and give the speech in parts, as it is made."""
        ...

    async def variants(self) -> Sequence[str]:
        """Return which weights can serve, of `base`, `bnb` and `awq`; offloaded ones are loaded first."""
        ...

    async def resident(self) -> Sequence[str]:
        """Return which weights are loaded now."""
        ...

    async def offload(self) -> None:
        """Let the models leave the memory until the next request."""
        ...

    async def ready(self) -> bool:
        """Tell whether any request can be served."""
        ...

    async def cache_stats(self) -> dict[str, Any]:
        """Return what the voice cache holds and has done; see `schemas.CacheStats`."""
        ...

    async def clear_cache(self) -> dict[str, Any]:
        """Empty the voice cache and return its state."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
