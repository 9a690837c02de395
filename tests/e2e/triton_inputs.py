"""What the end-to-end tests send."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

VOICES = Path(__file__).resolve().parents[2] / "gateway" / "assets" / "voices"


@functools.cache
def clip() -> tuple[np.ndarray, int]:
    """A built-in voice's recording: mono float32 and its rate."""
    waveform, rate = soundfile.read(VOICES / "happy_en.wav", dtype="float32")
    return waveform, rate


CLIP_TEXT = {voice["id"]: voice for voice in json.loads((VOICES / "voices.json").read_text())}["happy_en"][
    "prompt_text"
]


def ensemble_inputs(**changes: Any) -> dict[str, Any]:
    """A clone request with `changes`; `None` leaves a field out."""
    waveform, rate = clip()
    fields = {
        "audio": waveform,
        "sample_rate": rate,
        "mode": "clone",
        "text": "Hi.",
        "prompt_text": CLIP_TEXT,
        "seed": 0,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


TYPES = {
    "sample_rate": np.int32,
    "top_k": np.int32,
    "max_tokens": np.int32,
    "steps": np.int32,
    "seed": np.int64,
}


def tensors(api: Any, fields: dict[str, Any]) -> list[Any]:
    """Make the inputs of tritonclient's `api` module (grpc or http) from plain values."""
    inputs = []
    for name, value in fields.items():
        if isinstance(value, str | bytes):
            array = np.array([value.encode() if isinstance(value, str) else value], dtype=object)
        elif isinstance(value, np.ndarray):
            array = value
        elif isinstance(value, bool):
            array = np.array([value])
        else:
            array = np.array([value], TYPES.get(name, np.float32))
        kinds = {"O": "BYTES", "b": "BOOL", "f": "FP32"}
        kind = kinds.get(array.dtype.kind) or f"INT{8 * array.itemsize}"
        tensor = api.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs
