"""The whole random checkpoint: each network in the folder and under the file name of the released one."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rich.console import Console

from export.demo.llm import write_llm
from export.demo.recognizer import write_recognizer
from export.demo.speaker import write_speaker
from export.demo.tokenizer import write_tokenizer
from export.demo.vocoder import write_vocoder

Sizes = Literal["demo", "released"]


def write_checkpoint(directory: Path, sizes: Sizes, seed: int, console: Console) -> None:
    """Write the folders of the released checkpoints under `directory`; the same seed gives the same weights.

    `sizes="released"` gives all but the LLM, which stays small, their released dimensions. The empty
    file `complete` comes last, so that an interrupted run shows.
    """
    model, tokenizer = directory / "Step-Audio-EditX", directory / "Step-Audio-Tokenizer"
    parts: list[tuple[str, Callable[[], None]]] = [
        ("audio tokenizers", lambda: write_tokenizer(tokenizer, sizes, seed)),
        ("speaker encoder", lambda: write_speaker(model / "CosyVoice-300M-25Hz", sizes, seed)),
        ("flow and vocoder", lambda: write_vocoder(model / "CosyVoice-300M-25Hz", sizes, seed)),
        ("language model", lambda: write_llm(model, "demo", seed)),
        ("speech recogniser", lambda: write_recognizer(directory / "SenseVoiceSmall", sizes, seed)),
    ]
    for name, write in parts:
        started = time.perf_counter()
        with console.status(f"writing {name} …"):
            write()
        console.print(f"  {name}: {time.perf_counter() - started:.1f} s")
    (directory / "complete").touch()
    console.print(f"random {sizes} checkpoint in {directory}: every stage runs, the sound is noise")
