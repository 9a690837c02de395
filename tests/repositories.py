"""Model repositories of a test's own."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from export.variants import is_variant
from tests.servers import ROOT

WEIGHTS = shutil.ignore_patterns("*.onnx", "*.safetensors", "*.json", "*.model", "*.plan")


def bare_copy(target: Path, models: Iterable[str] | None = None) -> Path:
    """Copy the project's model repository, or some `models` of it, to `target` without any weights."""
    source = ROOT / "model_repository"
    found = sorted(path.parent.name for path in source.glob("*/config.pbtxt") if not is_variant(path.parent.name))
    for model in models or found:
        shutil.copytree(source / model, target / model, ignore=WEIGHTS)
    return target
