"""Triton model `speech_recognizer`: a recording to its words, their times, and how they were said."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from python_backend.asr.recognizer import DESCRIPTION_FILE, Recognizer
from python_backend.errors import InvalidInput
from python_backend.serving import Inputs, Outputs, UnaryWorkers, call

RECORDINGS_AT_ONCE = 8
PIECES_AT_ONCE = 16  # two batches of the network; Triton lets a Python model make 32 calls at once


class TritonPythonModel:
    """Prepares recordings and reads what the network, a model of its own, says about them."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the tokens and the voice activity detector."""
        directory = Path(args["model_repository"]) / args["model_version"]
        self._description = json.loads((directory / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        self._recognizer = Recognizer(directory, call, PIECES_AT_ONCE)
        self._workers = UnaryWorkers(self._answer, RECORDINGS_AT_ONCE)

    def execute(self, requests: list[Any]) -> None:
        """Queue the requests; answers leave through their response senders."""
        self._workers.execute(requests)

    def finalize(self) -> None:
        """Finish what is under way."""
        self._workers.close()
        self._recognizer.close()

    def _answer(self, inputs: Inputs) -> Outputs:
        operation = inputs.text("op")
        if operation == "describe":
            return {"description": np.array([json.dumps(self._description)])}
        audio = inputs.array("audio", np.float32, (None,))
        sample_rate = inputs.array("sample_rate", np.int32, (1,)).item()
        if operation == "cuts":
            return {"cuts": self._recognizer.cuts(audio, sample_rate)}
        if operation is not None:
            raise InvalidInput("op", f"must be cuts or describe, is {operation!r}")
        dither = inputs.scalar("dither", np.float32, 1.0)
        if not 0.0 <= dither <= 1.0:
            raise InvalidInput("dither", f"must be between 0 and 1, is {dither}")
        transcript = self._recognizer.recognise(
            audio, sample_rate, inputs.text("language") or "auto", inputs.scalar("use_itn", np.bool_, True), dither
        )
        segments = [segment.as_json() for segment in transcript.segments]
        return {
            "text": np.array([transcript.text]),
            "language": np.array([transcript.language]),
            "segments": np.array([json.dumps(segments, ensure_ascii=False)]),
            "stage_ms": transcript.stage_ms,
        }
