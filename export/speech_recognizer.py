"""What model `speech_recognizer` reads: the tokens, the voice activity detector, and what the recogniser is."""

import importlib.util
import json
import shutil
from pathlib import Path

from export.checkpoint import RECOGNIZER_TOKENS, Checkpoint, CheckpointError, plain_yaml
from python_backend.asr.detector import FILE as DETECTOR_FILE
from python_backend.asr.recognizer import DESCRIPTION_FILE, TOKENS_FILE

DETECTOR = "data/silero_vad_16k_sequence.onnx"


def export(checkpoint: Checkpoint, destination: Path) -> None:
    """Write `tokens.model`, `silero_vad.onnx` and `description.json` into the folder `destination`.

    Raises:
        CheckpointError: the checkpoint has no recogniser, or the package `silero-vad` is not installed.
    """
    folder = checkpoint.require("recognizer_dir")
    shutil.copyfile(folder / RECOGNIZER_TOKENS, destination / TOKENS_FILE)
    shutil.copyfile(_detector(), destination / DETECTOR_FILE)
    config = plain_yaml(folder / "config.yaml")
    description = {"model": folder.name, "note": config.get("step_audio_triton_demo", "")}
    (destination / DESCRIPTION_FILE).write_text(json.dumps(description) + "\n", encoding="utf-8")


def _detector() -> Path:
    # Looked up, not imported: the package would load torch and set its threads.
    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise CheckpointError("the package silero-vad, which holds the voice activity detector, is not installed")
    return Path(package.submodule_search_locations[0]) / DETECTOR
