"""A model that does nothing behind the ensemble's own interface: what is left to measure is everything around it."""

import re
from pathlib import Path

from server.settings import ROOT

MODEL = "step_audio_editx_base"
PLACES = 8
"""Requests that the model works on at once; it refuses further ones, as the engine does."""

_CODE = """
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils

from python_backend.errors import Unavailable
from python_backend.serving import UnaryWorkers

ANSWER = {{
    "waveform": (0.3 * np.sin(np.arange({samples}) / 9)).astype(np.float32),
    "finish_reason": np.array([b"stop"], dtype=object),
    "usage": np.array([100, 50], np.int32),
    "voice_ms": np.ones(4, np.float32),
    "llm_ms": np.ones(2, np.float32),
    "flow_ms": np.ones(2, np.float32),
    "kept_voice_key": np.array([b"null"], dtype=object),
    "cache_hit": np.array([True]),
}}

class TritonPythonModel:
    def initialize(self, args):
        self.workers = UnaryWorkers(self.answer, 2 * {places})
        self.places = threading.Semaphore({places})

    def answer(self, inputs):
        if not self.places.acquire(blocking=False):
            raise Unavailable("queue full: all places are taken")
        time.sleep({seconds})
        self.places.release()
        return ANSWER

    def execute(self, requests):
        self.workers.execute(requests)

    def finalize(self):
        self.workers.close()
"""


def write_repository(folder: Path, *, speech_seconds: float = 1.0, work_seconds: float = 0.0) -> None:
    """Write a model repository whose only model answers every request with a tone.

    Args:
        folder: where.
        speech_seconds: length of the tone.
        work_seconds: how long a request takes.
    """
    interface = (ROOT / "model_repository" / MODEL / "config.pbtxt").read_text(encoding="utf-8")
    tensors = re.findall(r"^(?:input|output) \{.*\}$", interface, re.MULTILINE)
    config = [f'name: "{MODEL}"', 'backend: "python"', *tensors, "instance_group [{ kind: KIND_CPU count: 1 }]"]
    (folder / MODEL / "1").mkdir(parents=True)
    (folder / MODEL / "config.pbtxt").write_text("\n".join(config), encoding="utf-8")
    code = _CODE.format(samples=round(speech_seconds * 24_000), seconds=work_seconds, places=PLACES)
    (folder / MODEL / "1" / "model.py").write_text(code, encoding="utf-8")
