"""The connection to Triton that the gateway and the command line share."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import grpc
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from client.channel import connect
from client.errors import DeadlineExceeded, ModelFailed, ServerUnavailable, SpeechError, VoiceForgotten, translate
from client.residency import Residency
from client.speech import SpeechJob, SpeechResult
from client.tensors import OUTPUTS, STREAM_OUTPUTS, inputs_of, requested, result_of, text_tensor
from client.voice_keys import VoiceKeys

log = logging.getLogger(__name__)

VARIANTS = ("base", "bnb", "awq")
STREAM = "step_audio_editx_stream"
VOICE_ENCODER = "voice_encoder"
DEFAULT_URL = "127.0.0.1:8001"
_PROBE_SECONDS = 3.0
_LOADED_KEPT_SECONDS = 5.0
# When it was asked which models are loaded, and which are.
_NOTHING_KNOWN: tuple[float, frozenset[str]] = (float("-inf"), frozenset())
# A stream that has begun and is silent for so long comes from a model that died.
_SILENCE_SECONDS = 60.0


class TritonSpeech:
    """Speech from the `step_audio_editx_*` models of one Triton, over gRPC.

    Belongs to the event loop that first uses it. Many requests may be under way at once. A clip that the server still
    knows is not sent again.

    Args:
        url: host and port of Triton's gRPC end point.
    """

    def __init__(self, url: str = DEFAULT_URL):
        self.url = url
        self._connected: triton.InferenceServerClient | None = None
        self._known = _NOTHING_KNOWN
        self._cancels: set[asyncio.Task[None]] = set()
        self._voices = VoiceKeys()
        self._residency = Residency(lambda: self._client)

    @property
    def _client(self) -> triton.InferenceServerClient:
        if self._connected is None:
            self._connected = connect(self.url)
        return self._connected

    async def synthesize(self, job: SpeechJob) -> SpeechResult:
        """Run one pass.

        An ensemble does not see that its caller went away, so a cancelled or late call withdraws the request from
        the engine by its `cancel_id`.

        Raises:
            SpeechError: the request was refused or failed.
        """
        name = self._voices.name(job.clip)
        try:
            result = await self._synthesize(job, self._voices.get(name))
        except VoiceForgotten:
            self._voices.forget(name)
            result = await self._synthesize(job, None)
        self._voices.learn(name, result.voice_key)
        return result

    async def _synthesize(self, job: SpeechJob, voice_key: str | None) -> SpeechResult:
        cancel_id = secrets.token_hex(16)
        try:
            answer = await self._client.infer(
                _model(job.variant),
                [*inputs_of(job, voice_key), text_tensor("cancel_id", cancel_id)],
                outputs=requested(OUTPUTS),
            )
        except InferenceServerException as error:
            failure = translate(error)
            if isinstance(failure, DeadlineExceeded):
                self._withdraw(job.variant, cancel_id)
            if isinstance(failure, ServerUnavailable):
                self._known = _NOTHING_KNOWN
            raise failure from None
        except asyncio.CancelledError:
            self._withdraw(job.variant, cancel_id)
            raise
        return result_of(answer)

    async def stream(self, job: SpeechJob) -> AsyncGenerator[SpeechResult, None]:
        """Run one pass and give its speech in parts, as it is made; where no model streams, in one.

        Who leaves before the end must close the generator: that stops the work on the server.

        Raises:
            SpeechError: the request was refused or failed, perhaps after some parts.
        """
        if STREAM not in await self._loaded():
            yield await self.synthesize(job)
            return
        name = self._voices.name(job.clip)
        for voice_key in dict.fromkeys((self._voices.get(name), None)):
            try:
                async with aclosing(self._stream(job, voice_key)) as parts:
                    async for part in parts:
                        self._voices.learn(name, part.voice_key)
                        yield part
                return
            except VoiceForgotten:  # which comes before any part
                if voice_key is None:
                    raise
                self._voices.forget(name)

    async def _stream(self, job: SpeechJob, voice_key: str | None) -> AsyncGenerator[SpeechResult, None]:
        request = {
            "model_name": STREAM,
            "inputs": [*inputs_of(job, voice_key), text_tensor("variant", job.variant)],
            "outputs": requested(STREAM_OUTPUTS),
        }
        answers = self._client.stream_infer(_once(request))
        part: SpeechResult | None = None
        try:
            while (answer := await _next(answers, None if part is None else _SILENCE_SECONDS)) is not None:
                part = result_of(answer)
                yield part
        finally:
            answers.cancel()
        if part is None or not part.finish_reason:
            raise ModelFailed("the speech ended before its end")

    async def cache_stats(self) -> dict[str, Any]:
        """Return what the server's voice cache holds and has done.

        Raises:
            SpeechError: it does not say.
        """
        return await self._ask_cache("stats")

    async def clear_cache(self) -> dict[str, Any]:
        """Empty the server's voice cache and return its state.

        Raises:
            SpeechError: voices may be left in it.
        """
        self._voices.clear()
        return await self._ask_cache("clear")

    async def _ask_cache(self, op: str) -> dict[str, Any]:
        try:
            answer = await self._client.infer(VOICE_ENCODER, [text_tensor("op", op)], outputs=requested(["stats"]))
        except InferenceServerException as error:
            raise translate(error) from None
        stats: dict[str, Any] = json.loads(answer.as_numpy("stats")[0])
        return stats

    async def variants(self) -> tuple[str, ...]:
        """Return the variants that can serve; models that were offloaded are loaded first.

        Raises:
            SpeechError: Triton does not answer, or cannot load them.
        """
        found = await self.resident()
        if not found and await self._residency.is_offloaded():
            await self._residency.resume()
            self._known = _NOTHING_KNOWN
            found = await self.resident()
        return found

    async def resident(self) -> tuple[str, ...]:
        """Return the variants that are loaded now; the answer may be a few seconds old.

        Raises:
            ServerUnavailable: Triton does not answer.
        """
        loaded = await self._loaded()
        return tuple(name for name in VARIANTS if _model(name) in loaded)

    async def ready(self) -> bool:
        """Tell whether any variant can serve, perhaps after it has been loaded again."""
        try:
            return bool(await self.resident()) or await self._residency.is_offloaded()
        except SpeechError:
            return False

    async def offload(self) -> None:
        """Let the speech models leave the server's memory; the next request loads them again.

        Raises:
            SpeechError: Triton does not answer, or does not let go of them.
        """
        try:
            await self._residency.offload()
        finally:
            self._known = _NOTHING_KNOWN

    async def close(self) -> None:
        """Deliver the withdrawals under way, then close the connection."""
        await asyncio.gather(*self._cancels)
        if self._connected is not None:
            await self._connected.close()
            self._connected = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _loaded(self) -> frozenset[str]:
        asked_at, known = self._known
        if time.monotonic() - asked_at > _LOADED_KEPT_SECONDS or not known:
            models = (STREAM, *map(_model, VARIANTS))
            try:
                states = await asyncio.gather(*map(self._model_ready, models))
            except InferenceServerException as error:
                raise ServerUnavailable(f"no Triton answers at {self.url}") from error
            known = frozenset(name for name, ready in zip(models, states, strict=True) if ready)
            self._known = (time.monotonic(), known)
        return known

    async def _model_ready(self, model: str) -> bool:
        return bool(await self._client.is_model_ready(model, client_timeout=_PROBE_SECONDS))

    def _withdraw(self, variant: str, cancel_id: str) -> None:
        task = asyncio.get_running_loop().create_task(self._cancel(variant, cancel_id))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def _cancel(self, variant: str, cancel_id: str) -> None:
        inputs = [text_tensor("op", "cancel"), text_tensor("cancel_id", cancel_id)]
        try:
            await self._client.infer(f"llm_{variant}_unary", inputs, client_timeout=_PROBE_SECONDS)
        except InferenceServerException as error:
            log.warning("a request could not be withdrawn: %s", translate(error))


def _model(variant: str) -> str:
    return f"step_audio_editx_{variant}"


async def _once(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield request


async def _next(answers: Any, seconds: float | None) -> triton.InferResult | None:
    """Return the next answer of a stream, `None` at its end.

    Raises:
        SpeechError: it failed, or was silent for `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            answer, error = await anext(answers)
    except StopAsyncIteration:
        return None
    except TimeoutError:
        raise DeadlineExceeded(f"the speech stood still for {seconds:g} s") from None
    except grpc.aio.AioRpcError as failure:
        error = InferenceServerException(failure.details() or "", str(failure.code()))
    if error is not None:
        raise translate(error) from None
    return answer
