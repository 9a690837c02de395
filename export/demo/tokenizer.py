"""Random audio tokenizers in the layout of `stepfun-ai/Step-Audio-Tokenizer`.

Random weights alone would give one code for everything. So the normalisation, the centroids and the codebook are taken
from what the random networks make of speech-like sound, and codes vary on speech.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from export.demo.s3_tokenizer import CODES as SEMANTIC_CODES
from export.demo.s3_tokenizer import S3Sizes, S3Tokenizer
from export.demo.signals import speech_like
from export.demo.weights import randomise
from export.linguistic_features import LinguisticFeatures
from export.linguistic_tokenizer import EXPECTED
from export.sanm_encoder import SanmEncoder
from export.semantic_tokenizer import SemanticFeatures

PARAFORMER = "dengcunqin/speech_paraformer-large_asr_nat-zh-cantonese-en-16k-vocab8501-online"
LINGUISTIC_CODES = 1024
MELS, STACK, STRIDE = 80, 7, 6
CLIPS, CLIP_SECONDS = 6, 30  # enough sound for 4096 distinct semantic codes


@dataclass(frozen=True)
class TokenizerSizes:
    """What differs between a demo and a released checkpoint."""

    width: int
    heads: int
    units: int
    blocks: int
    kernel: int
    semantic: S3Sizes


SIZES = {
    "demo": TokenizerSizes(128, 4, 256, 6, 11, S3Sizes(width=128, heads=4, blocks=2)),
    "released": TokenizerSizes(512, 4, 2048, 50, 11, S3Sizes(width=1280, heads=20, blocks=6)),
}


def write_tokenizer(directory: Path, sizes: Literal["demo", "released"], seed: int) -> None:
    """Write both tokenizers into `directory`; the same seed gives the same weights."""
    clips = [speech_like(seed + i, CLIP_SECONDS) for i in range(CLIPS)]
    with torch.inference_mode():
        _write_linguistic(directory, SIZES[sizes], seed, torch.from_numpy(np.stack(clips)))
        _write_semantic(directory / "speech_tokenizer_v1.onnx", SIZES[sizes].semantic, seed, clips)


def _write_linguistic(directory: Path, sizes: TokenizerSizes, seed: int, audio: Tensor) -> None:
    inputs = MELS * STACK
    zeros, ones = np.zeros(inputs, dtype=np.float32), np.ones(inputs, dtype=np.float32)
    length = torch.full((len(audio), 1), audio.shape[1])
    features, _ = LinguisticFeatures(MELS, STACK, STRIDE, zeros, ones)(audio, length, torch.ones(len(audio), 1))
    shift, scale = -features.mean(dim=(0, 1)), 1 / features.std(dim=(0, 1))
    features = (features + shift) * scale
    count = torch.full((len(audio), 1), features.shape[1])

    encoder = SanmEncoder(
        inputs, sizes.width, sizes.heads, sizes.units, sizes.blocks, sizes.kernel, longest=features.shape[1]
    ).eval()
    randomise(encoder, seed)
    encoded = torch.cat([encoder(features[i : i + 1], count[i : i + 1])[0] for i in range(len(features))])

    write_paraformer(directory, encoder, sizes, shift, scale, _sample(encoded, LINGUISTIC_CODES, seed))


def write_paraformer(
    directory: Path, encoder: SanmEncoder, sizes: TokenizerSizes, shift: Tensor, scale: Tensor, centroids: Tensor
) -> None:
    """Write the linguistic tokenizer as released: `linguistic_tokenizer.npy` and the encoder's own folder.

    Args:
        directory: the folder of the tokenizers.
        encoder: of `sizes`; its weights are written in the dtype they have.
        shift, scale: float32 [560], added to and then multiplied with the features.
        centroids: float32 [1024, width].
    """
    folder = directory / PARAFORMER
    folder.mkdir(parents=True, exist_ok=True)
    np.save(directory / "linguistic_tokenizer.npy", centroids.numpy())
    torch.save({f"encoder.{name}": value for name, value in encoder.state_dict().items()}, folder / "model.pt")
    (folder / "config.yaml").write_text(yaml.safe_dump(_config(sizes), sort_keys=False))
    (folder / "am.mvn").write_text(kaldi_cmvn_text(shift.numpy(), scale.numpy()))
    metas = {"init_param": "model.pt", "config": "config.yaml", "frontend_conf": {"cmvn_file": "am.mvn"}}
    (folder / "configuration.json").write_text(json.dumps({"file_path_metas": metas}, indent=1))
    tokens = ["<blank>", "<s>", "</s>", "<unk>"]
    (folder / "tokens.json").write_text(json.dumps(tokens))
    (folder / "tokens.txt").write_text("\n".join(tokens) + "\n")
    (folder / "seg_dict").write_text("")


def _write_semantic(path: Path, sizes: S3Sizes, seed: int, clips: list[NDArray[np.float32]]) -> None:
    network = S3Tokenizer(sizes).eval()
    randomise(network, seed)
    features = SemanticFeatures(torch.int32)
    encoded = torch.cat([network.encode(*features(torch.from_numpy(clip)[None]))[0] for clip in clips])
    network.codebook.copy_(_sample(encoded, SEMANTIC_CODES, seed).T)
    network.save(path)


def _sample(vectors: Tensor, count: int, seed: int) -> Tensor:
    """Pick `count` different rows."""
    return vectors[torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))[:count]].contiguous()


def _config(sizes: TokenizerSizes) -> dict[str, object]:
    encoder = {
        "output_size": sizes.width,
        "attention_heads": sizes.heads,
        "linear_units": sizes.units,
        "num_blocks": sizes.blocks,
        "kernel_size": sizes.kernel,
    }
    frontend = {"n_mels": MELS, "lfr_m": STACK, "lfr_n": STRIDE}
    return {
        "model": "ParaformerStreaming",
        "encoder": EXPECTED["encoder"],
        "encoder_conf": encoder | EXPECTED["encoder_conf"],  # type: ignore[operator]
        "frontend": EXPECTED["frontend"],
        "frontend_conf": EXPECTED["frontend_conf"] | frontend,  # type: ignore[operator]
    }


def kaldi_cmvn_text(shift: NDArray[np.float32], scale: NDArray[np.float32]) -> str:
    """Return the text that `export.checkpoint.kaldi_cmvn` reads."""

    def component(name: str, values: NDArray[np.float32]) -> str:
        numbers = " ".join(f"{value:.7g}" for value in values)
        return f"<{name}> {len(values)} {len(values)}\n<LearnRateCoef> 0 [ {numbers} ]\n"

    return f"<Nnet>\n{component('AddShift', shift)}{component('Rescale', scale)}</Nnet>\n"
