"""The first sentences of a fresh system: they warm every path up and show that it speaks."""

import io
import json
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from server.control import Control
from server.repository import VARIANTS
from server.settings import ROOT

ENSEMBLE = "step_audio_editx_"  # and the variant
STREAM = "step_audio_editx_stream"
VOICE_ENCODER = "voice_encoder"
VOICE = "happy_en"
WARM_UP = "Hello."
FIRST_WORDS = "Hello! These are my first words, spoken through Triton."
VOICES = ROOT / "gateway" / "assets" / "voices"
SAMPLE_RATE = 24_000
TIMEOUT = 600.0


class NoWords(Exception):
    """The sentence was not spoken; the message says why."""


@dataclass(frozen=True)
class Recording:
    """A WAV file's content and its length."""

    content: bytes
    seconds: float


def ensembles(models: Collection[str]) -> list[str]:
    """Return those of `models` that speak, one per variant of the language model."""
    return [name for variant in VARIANTS if (name := f"{ENSEMBLE}{variant}") in models]


def through_triton(control: Control, ensemble: str, text: str) -> Recording:
    """Clone a built-in voice with an ensemble.

    Raises:
        TritonError: the request failed.
    """
    return _recording(control.infer(ensemble, clone(text), TIMEOUT)["waveform"])


def through_stream(control: Control, ensemble: str, text: str) -> Recording:
    """Clone a built-in voice with the streaming model, and the language model of an ensemble.

    Raises:
        TritonError: the request failed.
    """
    inputs = {**clone(text), "variant": np.array([ensemble.removeprefix(ENSEMBLE)])}
    return _recording(np.concatenate([answer["waveform"] for answer in control.stream(STREAM, inputs, TIMEOUT)]))


def clone(text: str) -> dict[str, NDArray[Any]]:
    """Return the tensors of a request that speaks `text`."""
    voice = next(entry for entry in json.loads((VOICES / "voices.json").read_text()) if entry["id"] == VOICE)
    waveform, sample_rate = soundfile.read(VOICES / f"{VOICE}.wav", dtype="float32")
    return {
        "audio": waveform,
        "sample_rate": np.array([sample_rate], np.int32),
        "mode": np.array(["clone"]),
        "text": np.array([text]),
        "prompt_text": np.array([voice["prompt_text"]]),
    }


def _recording(waveform: NDArray[Any]) -> Recording:
    content = io.BytesIO()
    soundfile.write(content, waveform, SAMPLE_RATE, "PCM_16", format="WAV")
    return Recording(content.getvalue(), len(waveform) / SAMPLE_RATE)


def encode(control: Control) -> None:
    """Run the voice networks on a whole clip; a voice that is remembered would not reach them.

    Raises:
        TritonError: the request failed.
    """
    clip = {name: value for name, value in clone("").items() if name in ("audio", "sample_rate")}
    control.infer(VOICE_ENCODER, {**clip, "op": np.array(["encode"])}, TIMEOUT)


def uncount(control: Control) -> None:
    """Let the voice cache begin to count anew.

    Raises:
        TritonError: the request failed.
    """
    control.infer(VOICE_ENCODER, {"op": np.array(["reset"])}, TIMEOUT)


def through_gateway(url: str, text: str) -> Recording:
    """Ask the gateway the way any client does.

    Raises:
        NoWords: it answered with an error or with something that is not 24 kHz, mono, 16-bit WAV.
    """
    request = urllib.request.Request(  # noqa: S310 - http only
        f"{url}/v1/audio/speech",
        data=json.dumps(request_body(text)).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            content = answer.read()
    except urllib.error.HTTPError as error:
        raise NoWords(f"{error.code} {error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise NoWords(str(error)) from error
    try:
        sound = soundfile.info(io.BytesIO(content))
    except soundfile.LibsndfileError as error:
        raise NoWords(f"the answer is not a WAV file: {error}") from error
    if (sound.format, sound.samplerate, sound.channels, sound.subtype) != ("WAV", SAMPLE_RATE, 1, "PCM_16"):
        raise NoWords(f"the answer is not 24 kHz, mono, 16-bit WAV but {sound}")
    return Recording(content, sound.frames / sound.samplerate)


def request_body(text: str) -> dict[str, str]:
    """Return the JSON body that speaks `text`."""
    return {"model": "step-audio-editx", "voice": VOICE, "input": text, "response_format": "wav"}


def curl_line(url: str) -> str:
    """Return a command that does the same from a shell."""
    body = json.dumps(request_body("Hello there."))
    return f"curl {url}/v1/audio/speech -H 'Content-Type: application/json' -d '{body}' -o hello.wav"


def has_random_weights(model_repository: Path) -> bool:
    """Tell whether a language model served is the demo checkpoint, whose weights were never trained."""
    configs = (model_repository / f"llm_{variant}" / "1" / "config.json" for variant in VARIANTS)
    found = [json.loads(config.read_text()) for config in configs if config.is_file()]
    return any(content.get("step_audio_triton_demo") == "random" for content in found)
