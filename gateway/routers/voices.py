"""The voices a request can name."""

from fastapi import APIRouter
from fastapi.responses import FileResponse

from gateway.errors import NotFound
from gateway.routers.documented import errors
from gateway.schemas import VoiceCard
from gateway.voices import UnknownVoice, Voice, VoiceLibrary


def router(voices: VoiceLibrary) -> APIRouter:
    """Return the routes under `/v1/voices`."""
    routes = APIRouter(prefix="/v1/voices", tags=["voices and tags"])

    def named(voice: str) -> Voice:
        try:
            return voices.find(voice)
        except UnknownVoice as error:
            raise NotFound(str(error.args[0]), param="voice") from None

    @routes.get("")
    async def list_voices() -> list[VoiceCard]:
        """List the voices; the first is the default."""
        return [_card(voice) for voice in voices]

    @routes.get("/{voice}", responses=errors(404))
    async def get_voice(voice: str) -> VoiceCard:
        """Describe one voice."""
        return _card(named(voice))

    @routes.get("/{voice}/audio", response_class=FileResponse, responses=errors(404))
    async def get_recording(voice: str) -> FileResponse:
        """Return the recording of one voice."""
        return FileResponse(named(voice).path, media_type="audio/wav")

    return routes


def _card(voice: Voice) -> VoiceCard:
    return VoiceCard(
        id=voice.id,
        name=voice.name,
        description=voice.description,
        prompt_audio=f"/v1/voices/{voice.id}/audio",
        prompt_text=voice.prompt_text,
        locale=voice.locale,
        gender=voice.gender,
    )
