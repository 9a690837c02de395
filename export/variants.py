"""Model folders for the variants of the language model: those of the base, under other names."""

import re
import shutil
from pathlib import Path

VARIANTS = ("bnb", "awq")
TEMPLATES = ("llm_base", "llm_base_unary", "step_audio_editx_base")
_NAME = re.compile(r"\b(llm|step_audio_editx)_base(_unary)?\b")


def renamed(text: str, variant: str) -> str:
    """Return `text` with the models of `TEMPLATES` called after `variant`."""
    return _NAME.sub(rf"\1_{variant}\2", text)


def write_folders(model_repository: Path, variant: str) -> None:
    """Write the engine, its unary face and the ensemble of `variant` beside those of the base, weights left out."""
    for template in TEMPLATES:
        source, target = model_repository / template, model_repository / renamed(template, variant)
        (target / "1").mkdir(parents=True, exist_ok=True)
        config = renamed((source / "config.pbtxt").read_text(encoding="utf-8"), variant)
        note = f"# Written by `python -m export build` after {template}: changes belong there.\n"
        (target / "config.pbtxt").write_text(note + config, encoding="utf-8")
        for name in ("model.py", ".gitkeep"):
            if (source / "1" / name).is_file():
                shutil.copyfile(source / "1" / name, target / "1" / name)


def is_variant(model: str) -> bool:
    """Tell whether `model` is called after a variant, so that its folder is written here."""
    return model in {renamed(template, variant) for template in TEMPLATES for variant in VARIANTS}
