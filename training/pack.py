"""Writing what was learnt as a checkpoint in the released layout, in half precision."""

import shutil
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor

from export.checkpoint import RECOGNIZER_TOKENS
from export.demo.campplus import CamPlus
from export.demo.llm import write_config
from export.demo.recognizer import save_recognizer
from export.demo.s3_tokenizer import S3Tokenizer
from export.demo.tokenizer import TokenizerSizes, write_paraformer
from export.demo.vocoder import VocoderSizes, normalise, write_sizes
from export.sanm_encoder import SanmEncoder
from python_backend.llm.tokenizer import Tokenizer
from training import card, flow, linguistic, llm, recognizer, semantic, speaker, vocoder
from training.half import store_half

MODEL, TOKENIZER, VOCODER = "Step-Audio-EditX", "Step-Audio-Tokenizer", "CosyVoice-300M-25Hz"
RECOGNIZER = "SenseVoiceSmall"
LIMIT = 25_000_000  # bytes of everything
NOTE = "a small network trained on synthetic speech"


def tokenizers(work: Path, out: Path) -> None:
    """Write the two audio tokenizers and the speaker encoder that were trained in `work` into the checkpoint `out`."""
    learnt = torch.load(work / "linguistic.pt", map_location="cpu", weights_only=True)
    sizes = TokenizerSizes(
        linguistic.WIDTH, linguistic.HEADS, linguistic.UNITS, linguistic.BLOCKS, linguistic.KERNEL, semantic.SIZES
    )
    encoder = SanmEncoder(
        len(learnt["shift"]), sizes.width, sizes.heads, sizes.units, sizes.blocks, sizes.kernel, longest=4
    )
    encoder.load_state_dict(learnt["encoder"])
    write_paraformer(out / TOKENIZER, encoder.half(), sizes, learnt["shift"], learnt["scale"], learnt["centroids"])

    tokenizer = S3Tokenizer(semantic.SIZES)
    state = torch.load(work / "semantic.pt", map_location="cpu", weights_only=True)
    tokenizer.load_state_dict(_part(state, "encoder."))
    tokenizer.save(out / TOKENIZER / "speech_tokenizer_v1.onnx")
    store_half(out / TOKENIZER / "speech_tokenizer_v1.onnx")

    campplus = CamPlus(speaker.SIZES)
    campplus.load_state_dict(torch.load(work / "speaker.pt", map_location="cpu", weights_only=True))
    folder = out / MODEL / VOCODER
    folder.mkdir(parents=True, exist_ok=True)
    campplus.save(folder / "campplus.onnx")
    store_half(folder / "campplus.onnx")


def networks(work: Path, out: Path) -> None:
    """Write flow, vocoder, language model and recogniser that were trained in `work` into the checkpoint `out`."""
    folder = out / MODEL / VOCODER
    folder.mkdir(parents=True, exist_ok=True)
    encoder, estimator = flow.CONFIG.encoder, flow.CONFIG.estimator
    sizes = VocoderSizes(
        width=encoder.output_size,
        encoder_blocks=encoder.num_blocks,
        up_blocks=encoder.num_up_blocks,
        encoder_heads=encoder.attention_heads,
        linear_units=encoder.linear_units,
        depth=estimator.depth,
        hidden=estimator.hidden_size,
        heads=estimator.num_heads,
        head_dim=estimator.head_dim,
        hift_channels=vocoder.CONFIG.base_channels,
        f0_channels=vocoder.CONFIG.f0_channels,
        mlp_ratio=estimator.mlp_ratio,
    )
    write_sizes(folder, sizes, f"The released vocoder's structure: {NOTE}.")
    torch.save(_half(_load(work / "flow.pt")), folder / "flow.pt")
    torch.save(_half(normalise(_load(work / "vocoder.pt"))), folder / "hift.pt")
    _language_model(work, out / MODEL)
    _recognizer(work, out / RECOGNIZER)


def run(work: Path, out: Path, console: Console) -> None:
    """Write the whole checkpoint and show what each file takes.

    Raises:
        ValueError: it takes more than it may.
    """
    tokenizers(work, out)
    networks(work, out)
    card.write(work, out)
    (out / "complete").touch()
    sizes = {path.relative_to(out): path.stat().st_size for path in sorted(out.rglob("*")) if path.is_file()}
    table = Table("file", "kB")
    for path, size in sizes.items():
        table.add_row(str(path), f"{size / 1e3:,.0f}")
    table.add_row("all", f"{sum(sizes.values()) / 1e3:,.0f}")
    console.print(table)
    if sum(sizes.values()) > LIMIT:
        raise ValueError(f"the checkpoint takes {sum(sizes.values())} bytes, more than {LIMIT}")


def _language_model(work: Path, folder: Path) -> None:
    shutil.copyfile(work / llm.TOKENIZER, folder / "tokenizer.model")
    tokenizer = Tokenizer(folder / "tokenizer.model")
    vocab_size = tokenizer.audio_offset + tokenizer.audio_tokens
    write_config(folder, {**llm.SIZES, "vocab_size": vocab_size}, "float16", "trained")
    weights = {name: value.contiguous() for name, value in _half(_load(work / "llm.pt")).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for the owner alone


def _recognizer(work: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(work / recognizer.TOKENS, folder / RECOGNIZER_TOKENS)
    pieces = recognizer.Tokens(folder / RECOGNIZER_TOKENS).pieces()
    learnt = torch.load(work / "recognizer.pt", map_location="cpu", weights_only=True)
    network = recognizer.build(len(pieces), learnt["shift"].numpy(), learnt["scale"].numpy())
    network.load_state_dict(learnt["network"])
    save_recognizer(folder, network.half(), recognizer.SIZES, pieces, NOTE)


def _load(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
