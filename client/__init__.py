"""Python client and command line over Triton gRPC."""

from client.client import StepAudioClient
from client.errors import SpeechError
from client.speech import Clip, Sampling, SpeechJob, SpeechResult

__all__ = ["Clip", "Sampling", "SpeechError", "SpeechJob", "SpeechResult", "StepAudioClient"]
