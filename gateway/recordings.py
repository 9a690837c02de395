"""Recordings from wherever a request says they are: a voice, its own bytes, or the web."""

import logging

from anyio import to_thread
from soundfile import SoundFileError

from client.speech import Clip
from gateway.audio import UnusableAudio, from_base64, within_model_rates
from gateway.decoder import Decoder
from gateway.errors import AudioUrlError, InvalidAudio, InvalidVoice
from gateway.fetch import Fetcher, FetchFailed
from gateway.source import Source, Url
from gateway.voices import Voice

log = logging.getLogger(__name__)


class Recordings:
    """Reads the source of a request as a clip the models take."""

    def __init__(self, decoder: Decoder, fetcher: Fetcher):
        self._decoder = decoder
        self._fetcher = fetcher

    async def read(self, source: Source, max_seconds: float) -> Clip:
        """Fetch and decode what `source` names.

        Raises:
            InvalidAudio: it cannot be decoded, or is longer than `max_seconds`.
            AudioUrlError: it cannot be fetched.
            InvalidVoice: the voice was deleted meanwhile.
        """
        match source.content:
            case Voice() as voice:
                return await self._voice(voice)
            case Url(address):
                return await self.decode(
                    await self._fetch(address, source.audio_param), max_seconds, source.audio_param
                )
            case str() as text:
                try:
                    data = await to_thread.run_sync(from_base64, text)
                except UnusableAudio as error:
                    raise InvalidAudio(f"{source.audio_param}: {error}", param=source.audio_param) from None
                return await self.decode(data, max_seconds, source.audio_param)
            case bytes() as data:
                return await self.decode(data, max_seconds, source.audio_param)

    async def decode(self, data: bytes, max_seconds: float, param: str, rate: int | None = None) -> Clip:
        """Decode one file, at `rate` where that is given.

        Raises:
            InvalidAudio: it cannot be decoded, or is longer than `max_seconds`; names `param`.
        """
        try:
            return await self._decoder.decode(data, max_seconds, rate)
        except UnusableAudio as error:
            raise InvalidAudio(f"{param}: {error}", param=param) from error

    async def _fetch(self, url: str, param: str) -> bytes:
        try:
            return await self._fetcher.fetch(url)
        except FetchFailed as error:
            log.info("a clip was not fetched: %s", error, extra={"cause": repr(error.__cause__)})
            raise AudioUrlError(f"{param}: {error}", param=param) from None

    @staticmethod
    async def _voice(voice: Voice) -> Clip:
        try:
            return within_model_rates(await to_thread.run_sync(lambda: voice.clip))
        except SoundFileError:
            raise InvalidVoice(f"the voice {voice.id!r} was deleted", param="voice") from None
