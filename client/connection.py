"""One gRPC connection to Triton, for clients of single models."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from client.channel import connect
from client.errors import ModelFailed, ServerUnavailable, translate
from client.tensors import text_tensor

_PROBE_SECONDS = 3.0
_KEPT_SECONDS = 5.0


class ModelConnection:
    """The way to one model. Belongs to the event loop that first uses it.

    Args:
        url: host and port of Triton's gRPC end point.
        model: the model's name.
    """

    def __init__(self, url: str, model: str):
        self._url = url
        self._model = model
        self._connected: triton.InferenceServerClient | None = None
        self._known: tuple[float, dict[str, Any] | None] = (float("-inf"), None)

    async def infer(self, inputs: Sequence[triton.InferInput], outputs: Sequence[str]) -> triton.InferResult:
        """Run the model once.

        Raises:
            SpeechError: the request was refused or failed.
        """
        wanted = [triton.InferRequestedOutput(name) for name in outputs]
        try:
            return await self._client.infer(self._model, list(inputs), outputs=wanted)
        except InferenceServerException as error:
            raise translate(error) from None

    async def stream(
        self, inputs: Sequence[triton.InferInput], outputs: Sequence[str]
    ) -> AsyncGenerator[triton.InferResult, None]:
        """Run a decoupled model and give its responses; closing the generator before the end withdraws the request.

        Raises:
            SpeechError: the request was refused or failed, perhaps after some responses.
        """
        wanted = [triton.InferRequestedOutput(name) for name in outputs]
        request = {"model_name": self._model, "inputs": list(inputs), "outputs": wanted}
        answers = self._client.stream_infer(_once(request | {"enable_empty_final_response": True}))
        try:
            async for answer, error in answers:
                if error is not None:
                    raise translate(error)
                if answer.get_response().outputs:
                    yield answer
                if answer.get_response().parameters["triton_final_response"].bool_param:
                    return
        except InferenceServerException as error:
            raise translate(error) from None
        finally:
            answers.cancel()

    async def describe(self) -> dict[str, Any] | None:
        """Return what the model says of itself, `None` where it is not loaded; may be a few seconds old.

        Raises:
            SpeechError: Triton does not answer.
        """
        asked_at, known = self._known
        if known is None or time.monotonic() - asked_at > _KEPT_SECONDS:
            known = await self._describe()
            self._known = (time.monotonic(), known)
        return known

    async def close(self) -> None:
        """Close the connection."""
        if self._connected is not None:
            await self._connected.close()
            self._connected = None

    @property
    def _client(self) -> triton.InferenceServerClient:
        if self._connected is None:
            self._connected = connect(self._url)
        return self._connected

    async def _describe(self) -> dict[str, Any] | None:
        try:
            if not await self._client.is_model_ready(self._model, client_timeout=_PROBE_SECONDS):
                return None
        except InferenceServerException as error:
            raise ServerUnavailable(f"no Triton answers at {self._url}") from error
        # Through a stream, which both decoupled models and others answer.
        async for answer in self.stream([text_tensor("op", "describe")], ["description"]):
            return dict(json.loads(bytes(answer.as_numpy("description")[0])))
        raise ModelFailed(f"{self._model} does not say what it is")


async def _once(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield request
