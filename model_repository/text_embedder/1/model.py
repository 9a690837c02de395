"""Glue between Triton and `python_backend.embedding`."""

import json
from pathlib import Path
from typing import Any

from python_backend.embedding.service import TextEmbedder
from python_backend.serving import UnaryWorkers

REQUESTS_AT_ONCE = 64  # each waits in a thread of its own while the batcher works


class TritonPythonModel:
    """Answers every request from a thread; their texts meet in one batcher."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph and the tokenizer beside this file."""
        values = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in values.items()}
        directory = Path(args["model_repository"]) / args["model_version"]
        self._embedder = TextEmbedder(args["model_name"], directory, parameters)
        self._workers = UnaryWorkers(self._embedder.answer, REQUESTS_AT_ONCE)

    def execute(self, requests: list[Any]) -> None:
        """Queue the requests; answers leave through their response senders."""
        self._workers.execute(requests)

    def finalize(self) -> None:
        """Finish what is under way."""
        self._workers.close()
        self._embedder.close()
