"""A random SenseVoice in the layout FunASR publishes it in: speech gives text, but not its words.

As with the tokenizers, the CTC layer is taken from what the random encoder makes of speech-like sound: every token has
one of its outputs for a centre and the nearest one wins, so tokens vary; the blank wins most frames, as it does in a
trained network. The four query frames get the tags that belong there.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml
from torch import Tensor

from export.checkpoint import RECOGNIZER_TOKENS
from export.demo.signals import speech_like
from export.demo.text_tokenizer import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, normal_pieces, sentencepiece_model
from export.demo.tokenizer import kaldi_cmvn_text
from export.demo.weights import randomise
from export.features import SAMPLE_RATE
from export.sense_voice import EXPECTED, QUERIES, SenseVoice, SenseVoiceFeatures
from export.sense_voice_encoder import SenseVoiceEncoder
from python_backend.asr.queries import LANGUAGES, TEXT_NORMS

MELS, STACK, STRIDE = 80, 7, 6
QUERY_ROWS = 16
NOTE = "random weights: speech gives text, but not its words"
BLANK = 0
BLANK_SHARE = 0.1  # of frames like those of the calibration; recordings are less like them and get more
CLIPS, CLIP_SECONDS = 6, 20
QUERY_SECONDS = 4  # enough to see what a query is answered with
EMOTIONS = ("HAPPY", "SAD", "ANGRY", "NEUTRAL", "FEARFUL", "DISGUSTED", "SURPRISED", "EMO_UNKNOWN")
EVENTS = ("BGM", "Speech", "Applause", "Laughter", "Cry", "Sneeze", "Breath", "Cough", "Event_UNK")
TAGS = (*LANGUAGES, "nospeech", *EMOTIONS, *EVENTS, *TEXT_NORMS)


@dataclass(frozen=True)
class RecognizerSizes:
    """What differs between a demo and a released checkpoint."""

    width: int
    heads: int
    units: int
    blocks: int
    more_blocks: int
    kernel: int


SIZES = {
    "demo": RecognizerSizes(width=96, heads=4, units=192, blocks=4, more_blocks=2, kernel=11),
    "released": RecognizerSizes(width=512, heads=4, units=2048, blocks=50, more_blocks=20, kernel=11),
}


def write_recognizer(directory: Path, sizes: Literal["demo", "released"], seed: int) -> None:
    """Write `model.pt`, `config.yaml`, `am.mvn` and the tokens; the same seed gives the same files."""
    directory.mkdir(parents=True, exist_ok=True)
    tokens = write_tokens(directory / RECOGNIZER_TOKENS)
    with torch.inference_mode():
        network = _network(SIZES[sizes], tokens, seed)
    save_recognizer(directory, network, SIZES[sizes], tokens, NOTE)


def save_recognizer(directory: Path, network: SenseVoice, sizes: RecognizerSizes, tokens: list[str], note: str) -> None:
    """Write a network as FunASR publishes it, but for its SentencePiece model.

    Args:
        directory: the folder.
        network: of `sizes`; its weights are written in the dtype they have.
        tokens: pieces of the SentencePiece model.
        note: what users are told of the model.
    """
    weights = {name.replace("ctc_lo.", "ctc.ctc_lo."): value for name, value in network.state_dict().items()}
    torch.save(weights, directory / "model.pt")
    (directory / "config.yaml").write_text(yaml.safe_dump(_config(sizes, note), sort_keys=False))
    features = network.features
    (directory / "am.mvn").write_text(kaldi_cmvn_text(features.shift.float().numpy(), features.scale.float().numpy()))
    metas = {
        "init_param": "model.pt",
        "config": "config.yaml",
        "tokenizer_conf": {"bpemodel": RECOGNIZER_TOKENS},
        "frontend_conf": {"cmvn_file": "am.mvn"},
    }
    (directory / "configuration.json").write_text(json.dumps({"file_path_metas": metas}, indent=1))
    (directory / "tokens.json").write_text(json.dumps(tokens, ensure_ascii=False))


def write_tokens(path: Path) -> list[str]:
    """Write the SentencePiece model of words, letters and Chinese characters; return the pieces."""
    return write_pieces(path, normal_pieces())


def write_pieces(path: Path, normal: list[tuple[str, float]]) -> list[str]:
    """Write a SentencePiece model of `normal` pieces, each with its log-probability, and of tags; return all pieces."""
    pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [(piece, score, NORMAL) for piece, score in normal]
    pieces += [(f"<|{tag}|>", 0.0, USER_DEFINED) for tag in TAGS]
    path.write_bytes(sentencepiece_model(pieces, byte_fallback=False))
    return [piece for piece, _, _ in pieces]


def _network(sizes: RecognizerSizes, tokens: list[str], seed: int) -> SenseVoice:
    audio = torch.from_numpy(np.stack([speech_like(seed + i, CLIP_SECONDS) for i in range(CLIPS)]))
    length = torch.full((CLIPS, 1), audio.shape[1])
    dither = torch.ones(CLIPS, 1)
    inputs = MELS * STACK
    zeros, ones = np.zeros(inputs, dtype=np.float32), np.ones(inputs, dtype=np.float32)
    plain, _ = SenseVoiceFeatures(MELS, STACK, STRIDE, zeros, ones)(audio, length, dither)
    shift, scale = -plain.mean(dim=(0, 1)), 1 / plain.std(dim=(0, 1))
    encoder = SenseVoiceEncoder(
        inputs, sizes.width, sizes.heads, sizes.units, sizes.blocks, sizes.more_blocks, sizes.kernel, longest=2000
    )
    features = SenseVoiceFeatures(MELS, STACK, STRIDE, shift.numpy(), scale.numpy())
    network = SenseVoice(features, encoder, QUERY_ROWS, len(tokens)).eval()
    randomise(network, seed)

    def encode(language: int, text_norm: int, seconds: int) -> Tensor:
        one = torch.ones(CLIPS, 1, dtype=torch.int64)
        samples = seconds * SAMPLE_RATE
        return network.encode(audio[:, :samples], samples * one, language * one, text_norm * one, dither)

    speech = encode(0, TEXT_NORMS["woitn"], CLIP_SECONDS)
    frames = speech[:, QUERIES:].flatten(0, 1)
    frames = frames[torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))]
    centres, others = frames[: len(tokens)].clone(), frames[len(tokens) :]
    answers = {name: encode(row, TEXT_NORMS["woitn"], QUERY_SECONDS)[:, 0] for name, row in LANGUAGES.items()}
    answers |= {name: encode(0, row, QUERY_SECONDS)[:, QUERIES - 1] for name, row in TEXT_NORMS.items()}
    answers |= {"NEUTRAL": speech[:, 1], "Speech": speech[:, 2]}
    for tag in TAGS:  # one that answers no query lies where no output does
        answer = answers.get(tag)
        centres[tokens.index(f"<|{tag}|>")] = 0.0 if answer is None else answer.mean(dim=0)
    bias = -0.5 * centres.square().sum(dim=1)
    bias[[tokens.index(f"<|{tag}|>") for tag in TAGS if tag not in answers]] = -1e4
    bias[[tokens.index(piece) for piece in ("<s>", "</s>")]] = -1e4
    centres[BLANK], bias[BLANK] = 0.0, -1e4
    bias[BLANK] = (others @ centres.T + bias).amax(dim=1).quantile(BLANK_SHARE)
    network.ctc_lo.weight.copy_(centres)
    network.ctc_lo.bias.copy_(bias)
    return network


def _config(sizes: RecognizerSizes, note: str) -> dict[str, object]:
    encoder = {
        "output_size": sizes.width,
        "attention_heads": sizes.heads,
        "linear_units": sizes.units,
        "num_blocks": sizes.blocks,
        "tp_blocks": sizes.more_blocks,
        "kernel_size": sizes.kernel,
        "input_layer": "pe",
        "pos_enc_class": "SinusoidalPositionEncoder",
    }
    frontend = {"n_mels": MELS, "lfr_m": STACK, "lfr_n": STRIDE}
    return {
        "model": EXPECTED["model"],
        "model_conf": {"length_normalized_loss": True, "sos": 1, "eos": 2, "ignore_id": -1},
        "encoder": EXPECTED["encoder"],
        "encoder_conf": encoder | EXPECTED["encoder_conf"],  # type: ignore[operator]
        "frontend": EXPECTED["frontend"],
        "frontend_conf": EXPECTED["frontend_conf"] | frontend,  # type: ignore[operator]
        "tokenizer": "SentencepiecesTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
        "step_audio_triton_demo": note,
    }
