"""Glue between Triton and `python_backend.streaming`: sound while it is being made."""

import json
from typing import Any

from python_backend.streaming.service import SpeechStreams


class TritonPythonModel:
    """Takes requests at once and answers them from a thread each."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the threads; there is nothing to load."""
        values = json.loads(args["model_config"])["parameters"]
        self._streams = SpeechStreams({name: value["string_value"] for name, value in values.items()})

    def execute(self, requests: list[Any]) -> None:
        """Start the streams; the answers leave later through their response senders."""
        for request in requests:
            self._streams.enqueue(request)

    def finalize(self) -> None:
        """Wait for what is under way."""
        self._streams.close()
