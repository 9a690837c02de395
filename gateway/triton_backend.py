"""The real backend: speech from Triton."""

from client.triton import TritonSpeech
from gateway.backend import Backend
from gateway.settings import Settings


def triton_backend(settings: Settings) -> Backend:
    """Return the backend that `settings` names."""
    return TritonSpeech(settings.triton_url)
