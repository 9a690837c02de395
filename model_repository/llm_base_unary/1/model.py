"""Glue between Triton and `python_backend.llm`: one answer per request."""

import json
from typing import Any

from python_backend.llm.facade import UnaryFacade


class TritonPythonModel:
    """Calls the engine model and collects its stream."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the threads that wait for the engine."""
        values = json.loads(args["model_config"])["parameters"]
        self._facade = UnaryFacade(values["engine"]["string_value"], int(values["max_queue"]["string_value"]))

    def execute(self, requests: list[Any]) -> None:
        """Hand the requests to the threads; the answers leave later through their response senders."""
        self._facade.execute(requests)

    def finalize(self) -> None:
        """Wait for what is under way."""
        self._facade.close()
