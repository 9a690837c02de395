"""The HTTP application, put together from its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from gateway import error_handlers, openapi
from gateway.activity import Activity
from gateway.auth import BearerAuth
from gateway.backend import Backend
from gateway.chat import ChatService
from gateway.decoder import Decoder
from gateway.embedding import EmbeddingService
from gateway.fetch import Fetcher
from gateway.headers import EXPOSED
from gateway.metrics import Metrics
from gateway.middleware import BodyLimit, RequestContext
from gateway.neighbours import Neighbours
from gateway.rate_limit import RateLimit
from gateway.recordings import Recordings
from gateway.routers import (
    cache,
    chat,
    embeddings,
    embeddings_port,
    health,
    models,
    operations,
    recognition,
    speech,
    synthesize,
    tags,
    transcriptions,
    voices,
    voxcpm,
)
from gateway.settings import OPENAI_VOICES, Settings
from gateway.speech import SpeechService
from gateway.transcription import Recognizer, TranscriptionService
from gateway.voice_store import VoiceStore
from gateway.voices import VoiceLibrary


def create_app(
    settings: Settings,
    backend: Backend,
    recognizer: Recognizer | None = None,
    neighbours: Neighbours = Neighbours(),  # noqa: B008 - it cannot be changed
) -> FastAPI:
    """Return the application; it closes what it is given when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        decoder.close()
        await backend.close()
        if recognizer is not None:
            await recognizer.close()
        await neighbours.close()

    app = FastAPI(
        title="step-audio-triton",
        summary="Step-Audio-EditX behind OpenAI's audio API",
        version="0.1.0",
        lifespan=lifespan,
    )
    aliases = dict.fromkeys(OPENAI_VOICES, settings.default_voice) | settings.voice_aliases
    store = VoiceStore(settings.custom_voices_dir, settings.max_custom_voices)
    library = VoiceLibrary(settings.voices_dir, settings.default_voice, aliases, store)
    decoder = Decoder(settings.decode_processes)
    fetcher = Fetcher(settings.max_body_bytes, settings.url_timeout_seconds, settings.url_allow)
    recordings = Recordings(decoder, fetcher)
    metrics, activity = Metrics(), Activity()
    chats = ChatService(neighbours.chat, settings.request_timeout_seconds, metrics)
    embedding = EmbeddingService(neighbours.embedder, settings.request_timeout_seconds, metrics)
    app.include_router(embeddings_port.router(embedding))  # first: on their port they stand for what follows
    app.include_router(health.router(backend, chats))
    app.include_router(operations.router(backend, metrics))
    transcription = TranscriptionService(recognizer, recordings, settings, metrics)
    app.include_router(models.router(backend, [transcription.models, chats.models, embedding.models]))
    app.include_router(recognition.router(transcription))
    app.include_router(transcriptions.router(transcription))
    app.include_router(voices.router(library, store, recordings, transcription))
    app.include_router(tags.router())
    speaking = SpeechService(backend, library, recordings, settings, metrics, activity, transcription)
    app.include_router(speech.router(speaking))
    app.include_router(voxcpm.router(speaking, backend, library))
    app.include_router(synthesize.router(speaking))
    app.include_router(cache.router(backend, activity))
    app.include_router(chat.openai_router(chats))
    app.include_router(chat.short_router(chats))
    app.include_router(embeddings.openai_router(embedding))
    app.include_router(embeddings.qwen_router(embedding))
    error_handlers.install(app)
    openapi.install(app)
    # The one added last sees a request first.
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    if settings.requests_per_minute:
        app.add_middleware(RateLimit, per_minute=settings.requests_per_minute, by_key=bool(settings.api_keys))
    if settings.api_keys:
        app.add_middleware(BearerAuth, keys=settings.api_keys)
    app.add_middleware(
        CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"], expose_headers=["*", *EXPOSED]
    )
    app.add_middleware(RequestContext, metrics=metrics)
    return app
