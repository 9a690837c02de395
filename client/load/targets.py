"""What the load falls on: Triton itself, or the gateway in front of it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Protocol, Self

from client.errors import SpeechError
from client.load.workload import Utterance
from client.speech import Sampling, SpeechJob
from client.triton import TritonSpeech
from gateway.voices import VoiceLibrary

_PCM_BYTES_PER_SECOND = 2 * 24_000


class Failed(Exception):
    """A request was not served; the message is the kind of failure in a few words."""


class Target(Protocol):
    """Speaks utterances, many at once. An asynchronous context: leaving it closes the connections."""

    def speak(self, utterance: Utterance) -> AsyncGenerator[float, None]:
        """Give the length of each part of the speech, in seconds, when it comes.

        Raises:
            Failed: it was refused or broke off.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Triton:
    """The streaming model, over gRPC.

    Args:
        url: host and port of Triton's gRPC end point.
        variant: which weights.

    Attributes:
        speech: the connection.
    """

    def __init__(self, url: str, variant: str = "base"):
        self.speech = TritonSpeech(url)
        self._variant = variant
        self._voices = VoiceLibrary()

    def job(self, utterance: Utterance) -> SpeechJob:
        """Return `utterance` as the model takes it."""
        voice = self._voices.find(utterance.voice)
        sampling = Sampling(seed=utterance.seed, max_tokens=utterance.max_tokens)
        words = (voice.prompt_text, utterance.text)
        return SpeechJob("clone", voice.clip, *words, sampling=sampling, variant=self._variant)

    async def speak(self, utterance: Utterance) -> AsyncGenerator[float, None]:
        """Give the length of each part of the speech, in seconds, when it comes."""
        try:
            async with aclosing(self.speech.stream(self.job(utterance))) as parts:
                async for part in parts:
                    yield part.clip.seconds
        except SpeechError as error:
            raise Failed(type(error).__name__) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.speech.close()


class Gateway:
    """The gateway's `/v1/audio/speech` with `stream: true`, as PCM over HTTP.

    Args:
        url: such as `http://127.0.0.1:7860`.
        key: bearer key, where the gateway wants one.
        variant: which weights.

    Raises:
        ImportError: the package `httpx` is not installed.
    """

    def __init__(self, url: str, key: str = "", variant: str = "base"):
        import httpx

        self._errors = httpx.HTTPError
        self._variant = variant
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(base_url=url, timeout=600, limits=limits, headers=headers)

    async def speak(self, utterance: Utterance) -> AsyncGenerator[float, None]:
        """Give the length of each part of the speech, in seconds, when it comes."""
        options: dict[str, Any] = {"seed": utterance.seed, "model_variant": self._variant}
        if utterance.max_tokens is not None:
            options["max_tokens"] = utterance.max_tokens
        body = {"input": utterance.text, "voice": utterance.voice, "stream": True, "step_audio": options}
        try:
            async with self._http.stream("POST", "/v1/audio/speech", json={**body, "response_format": "pcm"}) as answer:
                if answer.status_code != 200:
                    raise Failed(f"HTTP {answer.status_code}")
                async for chunk in answer.aiter_raw():
                    yield len(chunk) / _PCM_BYTES_PER_SECOND
        except self._errors as error:
            raise Failed(type(error).__name__) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()
