"""Triton model `voice_encoder`: a clip, or the key of a known one, to prompt tokens, mel and speaker embedding."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from python_backend.errors import InvalidInput
from python_backend.serving import Inputs, Outputs, UnaryWorkers, call
from python_backend.voice.cache.opened import open_cache
from python_backend.voice.cache.reporter import CacheReporter
from python_backend.voice.cache.settings import CacheSettings
from python_backend.voice.cache.voice_cache import Answer
from python_backend.voice.encoder import VoiceEncoder

CLIPS_AT_ONCE = 8  # enough to fill the networks' batches


class TritonPythonModel:
    """Looks clips up; prepares those it does not know and asks the three networks, which are models of their own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the cache and start the threads."""
        settings = json.loads(args["model_config"])["parameters"]
        settings = CacheSettings.read({name: value["string_value"] for name, value in settings.items()})
        self._encoder = VoiceEncoder(call, threads=4 * CLIPS_AT_ONCE)
        repository = Path(args["model_repository"]).parent
        self._cache = open_cache(settings, repository, self._encoder.encode, functools.partial(print, flush=True))
        self._reporter = CacheReporter(self._cache)
        self._workers = UnaryWorkers(self._answer, workers=CLIPS_AT_ONCE)

    def execute(self, requests: list[Any]) -> None:
        """Queue the requests; answers leave through their response senders."""
        self._workers.execute(requests)

    def finalize(self) -> None:
        """Finish what is under way."""
        self._reporter.close()
        self._workers.close()
        self._encoder.close()
        self._cache.close()

    def _answer(self, inputs: Inputs) -> Outputs:
        op = inputs.text("op")
        if op not in (None, "encode"):
            return self._operate(op)
        answer = self._voice(inputs, kept=op is None)
        voice = answer.voice
        return {
            "prompt_tokens": voice.prompt_tokens,
            "prompt_mel": voice.prompt_mel,
            "speaker_embedding": voice.speaker_embedding,
            "stage_ms": voice.stage_ms,
            "voice_key": np.array([answer.key]),
            "cache_hit": np.array([answer.hit]),
        }

    def _voice(self, inputs: Inputs, *, kept: bool) -> Answer:
        key = inputs.text("voice_key")
        if key is None:
            encode = self._cache.encode if kept else self._cache.encode_anew
            return encode(
                inputs.array("audio", np.float32, (None,)),
                inputs.array("sample_rate", np.int32, (1,)).item(),
                inputs.scalar("dither", np.float32, 1.0),
            )
        if "audio" in inputs:
            raise InvalidInput("voice_key", "names a voice in place of audio; send one of the two")
        return self._cache.recall(key)

    def _operate(self, op: str) -> Outputs:
        operations = {"stats": lambda: None, "clear": self._cache.clear, "reset": self._cache.reset}
        if op not in operations:
            raise InvalidInput("op", f"unknown operation {op!r}, must be one of encode, {', '.join(operations)}")
        operations[op]()
        return {"stats": np.array([json.dumps(self._cache.stats())])}
