"""Triton model `voice_encoder`: a clip to prompt tokens, prompt mel and speaker embedding."""

from typing import Any

import numpy as np

from python_backend.serving import Inputs, Outputs, UnaryWorkers, call
from python_backend.voice.encoder import VoiceEncoder

CLIPS_AT_ONCE = 8  # enough to fill the networks' batches


class TritonPythonModel:
    """Prepares clips and asks the three networks, which are models of their own."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's signature
        """Start the threads; there is nothing to load."""
        self._encoder = VoiceEncoder(call, threads=4 * CLIPS_AT_ONCE)
        self._workers = UnaryWorkers(self._answer, workers=CLIPS_AT_ONCE)

    def execute(self, requests: list[Any]) -> None:
        """Queue the requests; answers leave through their response senders."""
        self._workers.execute(requests)

    def finalize(self) -> None:
        """Finish what is under way."""
        self._workers.close()
        self._encoder.close()

    def _answer(self, inputs: Inputs) -> Outputs:
        voice = self._encoder.encode(
            inputs.array("audio", np.float32, (None,)),
            inputs.array("sample_rate", np.int32, (1,)).item(),
            inputs.scalar("dither", np.float32, 1.0),
        )
        return {
            "prompt_tokens": voice.prompt_tokens,
            "prompt_mel": voice.prompt_mel,
            "speaker_embedding": voice.speaker_embedding,
            "stage_ms": voice.stage_ms,
        }
