"""The real backends: speech from Triton, and its words."""

from client.recognition import TritonRecognizer
from client.triton import TritonSpeech
from gateway.backend import Backend
from gateway.settings import Settings
from gateway.transcription import Recognizer


def triton_backend(settings: Settings) -> Backend:
    """Return the backend that `settings` names."""
    return TritonSpeech(settings.triton_url)


def triton_recognizer(settings: Settings) -> Recognizer:
    """Return the recogniser that `settings` names."""
    return TritonRecognizer(settings.triton_url)
