"""The released files on disk: where each part is, and readers that never run code found in a file."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

SEARCH_DEPTH = 4  # the deepest part lies in Step-Audio-Tokenizer/<owner>/<model>/
RECOGNIZER_TOKENS = "chn_jpn_yue_eng_ko_spectok.bpe.model"

VARIANT_OF = {"bitsandbytes": "bnb", "compressed-tensors": "awq"}
"""Which variant a `quant_method` makes: the folders' names are their owners' choice."""


class CheckpointError(Exception):
    """A checkpoint lacks a part, or a file of it cannot be used."""


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a Step-Audio-EditX checkpoint that were found; `None` where one is missing.

    Attributes:
        directory: the folder that was searched.
        linguistic_dir: folder of the Paraformer encoder (`model.pt`, `config.yaml`, `am.mvn`).
        centroids: `linguistic_tokenizer.npy`, the k-means centroids of vq02.
        semantic_onnx: `speech_tokenizer_v1.onnx` of the tokenizer release (the copy beside the vocoder is not used).
        campplus_onnx: `campplus.onnx`, the speaker encoder.
        vocoder_dir: folder of `cosyvoice.yaml`, `flow.pt` and `hift.pt`.
        llm_dir: folder of the language model (`config.json` of type `step1` and `*.safetensors`), not quantised.
        llm_bnb_dir, llm_awq_dir: the same model in 4 bits, see `VARIANT_OF`.
        tokenizer_model: `tokenizer.model`, the SentencePiece model.
        recognizer_dir: folder of SenseVoice: what `linguistic_dir` has, and the SentencePiece model of its tokens.
    """

    directory: Path
    linguistic_dir: Path | None
    centroids: Path | None
    semantic_onnx: Path | None
    campplus_onnx: Path | None
    vocoder_dir: Path | None
    llm_dir: Path | None
    llm_bnb_dir: Path | None
    llm_awq_dir: Path | None
    tokenizer_model: Path | None
    recognizer_dir: Path | None

    @classmethod
    def open(cls, directory: Path | str) -> Self:
        """Look for every part in `directory` and below: the two released folders side by side, or one of them alone.

        Raises:
            CheckpointError: `directory` is not a folder, or holds no part at all.
        """
        root = Path(directory)
        if not root.is_dir():
            raise CheckpointError(f"{root} is not a folder")
        folders = sorted(_folders(root, SEARCH_DEPTH), key=lambda folder: (len(folder.parts), folder))

        def folder_with(*names: str, without: str = "") -> Path | None:
            def fits(folder: Path) -> bool:
                return all((folder / name).is_file() for name in names) and not (
                    without and (folder / without).exists()
                )

            return _first(folders, fits)

        def file(name: str, not_beside: str = "") -> Path | None:
            found = folder_with(name, without=not_beside)
            return found / name if found else None

        checkpoint = cls(
            directory=root,
            linguistic_dir=folder_with("model.pt", "config.yaml", "am.mvn", without=RECOGNIZER_TOKENS),
            centroids=file("linguistic_tokenizer.npy"),
            semantic_onnx=file("speech_tokenizer_v1.onnx", not_beside="flow.pt"),
            campplus_onnx=file("campplus.onnx"),
            vocoder_dir=folder_with("cosyvoice.yaml", "flow.pt", "hift.pt"),
            llm_dir=_first(folders, lambda folder: _variant(folder) == "base"),
            llm_bnb_dir=_first(folders, lambda folder: _variant(folder) == "bnb"),
            llm_awq_dir=_first(folders, lambda folder: _variant(folder) == "awq"),
            tokenizer_model=file("tokenizer.model"),
            recognizer_dir=folder_with("model.pt", "config.yaml", "am.mvn", RECOGNIZER_TOKENS),
        )
        if not any(getattr(checkpoint, field.name) for field in dataclasses.fields(cls)[1:]):
            raise CheckpointError(f"{root} holds no part of a Step-Audio-EditX checkpoint")
        return checkpoint

    def of_variant(self, variant: str) -> Self:
        """Return this checkpoint with `variant`, `bnb` or `awq`, as its language model."""
        folder: Path | None = getattr(self, f"llm_{variant}_dir")
        own = folder / "tokenizer.model" if folder else None
        return dataclasses.replace(
            self, llm_dir=folder, tokenizer_model=own if own and own.is_file() else self.tokenizer_model
        )

    def require(self, part: str) -> Path:
        """Return the path of `part`, an attribute name.

        Raises:
            CheckpointError: the checkpoint has no such part.
        """
        path: Path | None = getattr(self, part)
        if path is None:
            raise CheckpointError(f"{self.directory} has no {part}")
        return path


def _folders(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for child in root.iterdir():
            if child.is_dir() and not child.name.startswith("."):
                yield from _folders(child, depth - 1)


def _first(folders: list[Path], fits: Callable[[Path], bool]) -> Path | None:
    return next((folder for folder in folders if fits(folder)), None)


def _variant(folder: Path) -> str | None:
    """Return which weights of the language model `folder` holds, `None` for none."""
    path = folder / "config.json"
    if not path.is_file() or not any(folder.glob("*.safetensors")):
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") != "step1":
        return None
    quantization = config.get("quantization_config")
    if quantization is None:
        return "base"
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if method not in VARIANT_OF:
        known = " or ".join(map(repr, VARIANT_OF))
        raise CheckpointError(f"{path}: quantization_config.quant_method is {method!r}, must be {known}")
    return VARIANT_OF[method]


def state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a `torch.save`d state dict to CPU, flat or under a top-level key `state_dict`.

    Raises:
        CheckpointError: the file holds anything but tensors by name (pickled code is refused by torch itself).
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} is not a state dict")
    return dict(content)


class _PlainLoader(yaml.SafeLoader):
    """Reads a tagged node as the plain map, list or scalar that it is written as."""


def _untagged(loader: _PlainLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    plain_tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
    return loader.construct_object(yaml.ScalarNode(plain_tag, node.value))


_PlainLoader.add_multi_constructor("!", _untagged)
# YAML 1.1 reads 1e-5 as a string for want of a dot.
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def plain_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file for its values only: `!new:some.Class {...}` gives the map alone and builds no object.

    Raises:
        CheckpointError: the file is not YAML, its top level is not a map, or it asks for a Python object.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)  # noqa: S506 - derived from SafeLoader
    except yaml.YAMLError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no map")
    return content


def check_config(config: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Check that `config` has every value of `expected`, maps within maps included; `where` starts the message.

    Raises:
        CheckpointError: one is missing or another.
    """
    for key, value in expected.items():
        if isinstance(value, dict):
            check_config(config.get(key, {}), value, f"{where}: {key}")
        elif config.get(key) != value:
            raise CheckpointError(f"{where}: {key} is {config.get(key)!r}, this project knows only {value!r}")


def kaldi_cmvn(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read the shift and the scale, float32 [n] each, of a Kaldi-nnet text file: `y = (x + shift) * scale`.

    Raises:
        CheckpointError: one of the two is missing or they differ in size.
    """
    text = path.read_text(encoding="utf-8")
    vectors = []
    for component in ("AddShift", "Rescale"):
        match = re.search(rf"<{component}>.*?<LearnRateCoef>\s+\S+\s+\[([^\]]*)\]", text, re.DOTALL)
        if match is None:
            raise CheckpointError(f"{path} has no <{component}>")
        vectors.append(np.array(match.group(1).split(), dtype=np.float32))
    shift, scale = vectors
    if shift.shape != scale.shape:
        raise CheckpointError(f"{path}: <AddShift> has {shift.size} values, <Rescale> {scale.size}")
    return shift, scale
