"""Writing what was learnt as a checkpoint in the released layout, in half precision."""

from pathlib import Path

import torch
from torch import Tensor

from export.demo.campplus import CamPlus
from export.demo.s3_tokenizer import S3Tokenizer
from export.demo.tokenizer import TokenizerSizes, write_paraformer
from export.sanm_encoder import SanmEncoder
from training import linguistic, semantic, speaker

MODEL, TOKENIZER, VOCODER = "Step-Audio-EditX", "Step-Audio-Tokenizer", "CosyVoice-300M-25Hz"


def tokenizers(work: Path, out: Path) -> None:
    """Write the two audio tokenizers and the speaker encoder that were trained in `work` into the checkpoint `out`."""
    learnt = torch.load(work / "linguistic.pt", weights_only=True)
    sizes = TokenizerSizes(
        linguistic.WIDTH, linguistic.HEADS, linguistic.UNITS, linguistic.BLOCKS, linguistic.KERNEL, semantic.SIZES
    )
    encoder = SanmEncoder(
        len(learnt["shift"]), sizes.width, sizes.heads, sizes.units, sizes.blocks, sizes.kernel, longest=4
    )
    encoder.load_state_dict(learnt["encoder"])
    write_paraformer(out / TOKENIZER, encoder.half(), sizes, learnt["shift"], learnt["scale"], learnt["centroids"])

    tokenizer = S3Tokenizer(semantic.SIZES)
    state = torch.load(work / "semantic.pt", weights_only=True)
    tokenizer.load_state_dict(_part(state, "encoder."))
    tokenizer.save(out / TOKENIZER / "speech_tokenizer_v1.onnx")

    campplus = CamPlus(speaker.SIZES)
    campplus.load_state_dict(torch.load(work / "speaker.pt", weights_only=True))
    folder = out / MODEL / VOCODER
    folder.mkdir(parents=True, exist_ok=True)
    campplus.save(folder / "campplus.onnx")


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
