"""A random CAM++ speaker encoder: `campplus.onnx`."""

from pathlib import Path
from typing import Literal

from export.demo.campplus import CamPlus, CamPlusSizes
from export.demo.weights import randomise

SIZES = {
    "demo": CamPlusSizes(head=8, width=32, growth=8, blocks=(3, 4, 3)),
    "released": CamPlusSizes(head=32, width=128, growth=32, blocks=(12, 24, 16)),
}


def write_speaker(directory: Path, sizes: Literal["demo", "released"], seed: int) -> None:
    """Write `campplus.onnx` into `directory`; the same seed gives the same weights."""
    directory.mkdir(parents=True, exist_ok=True)
    network = CamPlus(SIZES[sizes])
    randomise(network, seed)
    network.save(directory / "campplus.onnx")
