"""Glue between Triton and `python_backend.chat`."""

import json
from pathlib import Path
from typing import Any

from python_backend.chat.service import ChatModel


class TritonPythonModel:
    """Takes requests at once and answers them from the engine's thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the checkpoint beside this file and start generating."""
        values = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in values.items()}
        self._model = ChatModel(Path(args["model_repository"]) / args["model_version"], parameters)

    def execute(self, requests: list[Any]) -> None:
        """Queue the requests; the answers leave later through their response senders."""
        for request in requests:
            self._model.enqueue(request)

    def finalize(self) -> None:
        """Stop generating."""
        self._model.close()
