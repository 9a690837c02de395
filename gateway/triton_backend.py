"""The real backends: speech from Triton, and its words."""

from client.chat import TritonChat
from client.embedding import TritonEmbedder
from client.recognition import TritonRecognizer
from client.triton import TritonSpeech
from gateway.backend import Backend
from gateway.chat_backends import ChatBackend, LocalChat
from gateway.chat_upstream import UpstreamChat
from gateway.neighbours import Neighbours
from gateway.settings import Settings
from gateway.transcription import Recognizer


def triton_backend(settings: Settings) -> Backend:
    """Return the backend that `settings` names."""
    return TritonSpeech(settings.triton_url)


def triton_recognizer(settings: Settings) -> Recognizer:
    """Return the recogniser that `settings` names."""
    return TritonRecognizer(settings.triton_url)


def neighbours(settings: Settings) -> Neighbours:
    """Return the services beside speech that `settings` names."""
    return Neighbours(_chat(settings), TritonEmbedder(settings.triton_url))


def _chat(settings: Settings) -> ChatBackend:
    if not settings.chat_upstream_url:
        return LocalChat(TritonChat(settings.triton_url))
    return UpstreamChat(
        settings.chat_upstream_url,
        settings.chat_upstream_key.get_secret_value(),
        settings.chat_upstream_model,
        settings.chat_upstream_timeout_seconds,
    )
