"""Triton model `flow`: tokens and a voice to mel, and the noise the vocoder's source is made with."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from python_backend.noise import gaussian
from python_backend.serving import Inputs, Outputs, UnaryWorkers
from python_backend.token2wav.config import FlowConfig
from python_backend.token2wav.runtime import open_runtime
from python_backend.token2wav.token2mel import DEFAULT_STEPS, MelRequest, TokenToMel

SAMPLES_PER_FRAME = 480


class TritonPythonModel:
    """Answers one request at a time: a solve keeps all cores it is given busy."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the networks from this version's folder."""
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = json.loads(args["model_config"])["parameters"]
        choices = {name: parameters[name]["string_value"] for name in ("runtime", "device", "dtype")}
        config = FlowConfig.read(folder / "flow.json")
        self._token2mel = TokenToMel(open_runtime(folder, **choices), config)
        self._mel_channels = config.mel_channels
        self._workers = UnaryWorkers(self._answer, workers=1)

    def execute(self, requests: list[Any]) -> None:
        """Queue the requests; answers leave through their response senders."""
        self._workers.execute(requests)

    def finalize(self) -> None:
        """Finish what is under way."""
        self._workers.close()

    def _answer(self, inputs: Inputs) -> Outputs:
        seed = inputs.scalar("seed", np.int64, 0)
        mel_shape = (self._mel_channels, None)
        request = MelRequest(
            tokens=inputs.array("tokens", np.int32, (None,)),
            prompt_tokens=inputs.array("prompt_tokens", np.int32, (None,)),
            prompt_mel=inputs.array("prompt_mel", np.float32, mel_shape),
            speaker_embedding=inputs.array("speaker_embedding", np.float32, (None,)),
            seed=seed,
            steps=inputs.scalar("steps", np.int32, DEFAULT_STEPS),
            guidance=inputs.scalar("guidance", np.float32),
            initial_noise=inputs.array("initial_noise", np.float32, mel_shape) if "initial_noise" in inputs else None,
        )
        result = self._token2mel.generate(request)
        frames = result.mel.shape[1]
        return {
            "mel": result.mel,
            "mel_length": np.array([frames], dtype=np.int32),
            "noise": gaussian(seed, "hift", 0, SAMPLES_PER_FRAME * frames),
            "cached_source": np.zeros(1, dtype=np.float32),
            "cached_source_length": np.zeros(1, dtype=np.int32),
            "stage_ms": np.array(result.stage_ms, dtype=np.float32),
        }
