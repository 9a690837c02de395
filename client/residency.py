"""Which speech models are in the server's memory: out on request, and in again when they are needed."""

import asyncio
import time
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from client.errors import ServerUnavailable, translate

# Ensembles and what calls other models first: nothing is left that would call an unloaded one.
_SPEECH = (
    "step_audio_editx_*", "llm_*_unary", "llm_*", "flow", "vocoder", "voice_encoder", "linguistic_tokenizer",
    "semantic_tokenizer", "speaker_encoder",
)  # fmt: skip
_UNLOADED = "unloaded"
_POLL_SECONDS = 0.1
_UNLOAD_SECONDS = 60.0
_PROBE_SECONDS = 10.0


class Residency:
    """Loads and unloads through Triton's model control.

    Every method may raise `SpeechError`.

    Args:
        client: gives the connection.
    """

    def __init__(self, client: Callable[[], triton.InferenceServerClient]):
        self._client = client
        self._turn = asyncio.Lock()

    async def offload(self) -> None:
        """Unload every speech model; requests under way are finished first."""
        async with self._turn:
            try:
                for name in await self._speech_models("READY"):
                    await self._client().unload_model(name, client_timeout=_PROBE_SECONDS)
                await self._settled()
            except InferenceServerException as error:
                raise translate(error) from None

    async def is_offloaded(self) -> bool:
        """Tell whether models were unloaded that `resume` would load."""
        try:
            return bool(await self._speech_models("UNAVAILABLE"))
        except InferenceServerException as error:
            raise translate(error) from None

    async def resume(self) -> None:
        """Load what was unloaded; returns when all of it can serve."""
        async with self._turn:
            try:
                await self._settled()
                for name in reversed(await self._speech_models("UNAVAILABLE")):
                    await self._client().load_model(name)
            except InferenceServerException as error:
                raise translate(error) from None

    async def _settled(self) -> None:
        """Wait until no model is on its way out."""
        deadline = time.monotonic() + _UNLOAD_SECONDS
        while leaving := await self._speech_models("UNLOADING"):
            if time.monotonic() > deadline:
                raise ServerUnavailable(f"still at work and not unloaded: {', '.join(leaving)}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _speech_models(self, state: str) -> list[str]:
        """Return the speech models in `state`, callers before what they call; only unloaded ones if UNAVAILABLE."""
        index: Any = await self._client().get_model_repository_index(client_timeout=_PROBE_SECONDS)
        found = [
            model.name
            for model in index.models
            if model.state == state and (state != "UNAVAILABLE" or model.reason == _UNLOADED)
        ]
        return list(dict.fromkeys(name for kind in _SPEECH for name in found if fnmatch(name, kind)))
