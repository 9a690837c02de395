"""The voices a request can name, and those that users bring."""

from dataclasses import replace
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import FileResponse

from gateway.errors import InvalidValue, NotFound, PayloadTooLarge, PromptTextRequired
from gateway.ports import VOXCPM, Port
from gateway.recordings import Recordings
from gateway.routers.documented import errors
from gateway.schemas import OpenAIVoice, OpenAIVoiceDeleted, VoiceCard, VoiceDeleted, VoiceName, VoiceNames
from gateway.tags import control_token
from gateway.transcription import TranscriptionService
from gateway.voice_store import NewVoice, StoreFull, VoiceStore
from gateway.voices import UnknownVoice, Voice, VoiceLibrary

MAX_SAMPLE_BYTES = 10 * 1024 * 1024
MAX_SAMPLE_SECONDS = 30.0

Name = Annotated[str, Form(min_length=1, max_length=64, description="What to call the voice.")]
Sample = Annotated[UploadFile, File(description="A recording of up to 30 s and 10 MiB in which one person speaks.")]
Consent = Annotated[
    str, Form(min_length=1, max_length=1000, description="How the speaker agreed; kept with the voice.")
]
Words = Annotated[str, Form(min_length=1, max_length=1000, description="The words spoken in the recording.")]
OptionalWords = Annotated[
    str | None, Form(max_length=1000, description="Ours: the words spoken in the recording; else they are recognised.")
]
Note = Annotated[str, Form(max_length=500, description="For people who choose a voice.")]


def router(
    voices: VoiceLibrary, store: VoiceStore, recordings: Recordings, transcription: TranscriptionService
) -> APIRouter:
    """Return the routes under `/v1/voices`, and OpenAI's under `/v1/audio/voices`."""
    routes = APIRouter(prefix="/v1", tags=["voices and tags"])

    def named(voice: str) -> Voice:
        try:
            return voices.find(voice)
        except UnknownVoice as error:
            raise NotFound(str(error.args[0]), param="voice") from None

    async def keep(new: NewVoice, sample: UploadFile) -> Voice:
        for field, words in vars(new).items():
            token = control_token(words)
            if token:
                raise InvalidValue(f"{field}: must not contain the model's control token {token}", param=field)
        data = await sample.read()
        if len(data) > MAX_SAMPLE_BYTES:
            raise PayloadTooLarge(f"audio_sample: is larger than {MAX_SAMPLE_BYTES} bytes", param="audio_sample")
        clip = await recordings.decode(data, MAX_SAMPLE_SECONDS, "audio_sample")
        if not new.prompt_text:
            new = replace(new, prompt_text=await transcription.words_of(clip, "prompt_text"))
        try:
            return await to_thread.run_sync(store.add, new, clip)
        except StoreFull as error:
            raise InvalidValue(f"{error}; delete one first") from None

    async def forget(voice: str) -> None:
        if not await to_thread.run_sync(store.remove, voice):
            raise NotFound(f"no custom voice is called {voice!r}", param="voice")

    @routes.get("/voices")
    async def list_voices(port: Port) -> list[VoiceCard] | VoiceNames:
        """List the voices: built-in ones first, the default before all. On port 7861, by name only."""
        if port == VOXCPM:
            return VoiceNames(voices=[VoiceName(id=voice.id, name=voice.name) for voice in voices])
        return [_card(voice) for voice in voices]

    @routes.post("/voices", status_code=201, responses=errors(400, 401, 413, 415))
    async def create_voice(
        name: Name,
        audio_sample: Sample,
        prompt_text: Words,
        consent: Consent,
        description: Note = "",
        locale: Note = "",
        gender: Note = "",
    ) -> VoiceCard:
        """Bring a voice. The same name, words and recording give the same id."""
        new = NewVoice(name, prompt_text, consent, description, locale, gender)
        return _card(await keep(new, audio_sample))

    @routes.get("/voices/{voice}", responses=errors(404))
    async def get_voice(voice: str) -> VoiceCard:
        """Describe one voice."""
        return _card(named(voice))

    @routes.get("/voices/{voice}/audio", response_class=FileResponse, responses=errors(404))
    async def get_recording(voice: str) -> FileResponse:
        """Return the recording of one voice."""
        return FileResponse(named(voice).path, media_type="audio/wav")

    @routes.delete("/voices/{voice}", responses=errors(404))
    async def delete_voice(voice: str) -> VoiceDeleted:
        """Delete a voice that a user brought."""
        await forget(voice)
        return VoiceDeleted(id=voice)

    @routes.post("/audio/voices", responses=errors(400, 401, 413, 415))
    async def create_openai_voice(
        name: Name, audio_sample: Sample, consent: Consent, prompt_text: OptionalWords = None
    ) -> OpenAIVoice:
        """Bring a voice in OpenAI's form."""
        if not prompt_text and not await transcription.automatic():
            raise PromptTextRequired("prompt_text: the words spoken in the recording are needed", param="prompt_text")
        voice = await keep(NewVoice(name, prompt_text or "", consent), audio_sample)
        return OpenAIVoice(id=voice.id, name=voice.name, created_at=voice.created_at)

    @routes.delete("/audio/voices/{voice}", responses=errors(404))
    async def delete_openai_voice(voice: str) -> OpenAIVoiceDeleted:
        """Delete a voice in OpenAI's form."""
        await forget(voice)
        return OpenAIVoiceDeleted(id=voice)

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
