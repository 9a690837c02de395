"""The original's flow and HiFT, imported from a checkout of stepfun-ai/Step-Audio-EditX and given our weights."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from export.checkpoint import plain_yaml, state_dict

PACKAGE = "stepvocoder.cosyvoice2"


def load_flow(original: Path, vocoder_dir: Path) -> Any:
    """Build the original's `CausalMaskedDiffWithXvec`.

    Raises:
        RuntimeError: a package that the original imports is missing.
    """
    sizes = plain_yaml(vocoder_dir / "cosyvoice.yaml")["flow"]
    decoder = sizes.pop("decoder")
    estimator = _class(original, "flow.decoder_dit", "DiT")(**decoder.pop("estimator"))
    flow = _class(original, "flow.flow", "CausalMaskedDiffWithXvec")(
        input_embedding=_class(original, "embedding.dual_codebook", "DualCodebookEmbedding")(
            **sizes.pop("input_embedding")
        ),
        encoder=_class(original, "transformer.upsample_encoder_v2", "UpsampleConformerEncoderV2")(
            **sizes.pop("encoder")
        ),
        decoder=_class(original, "flow.flow_matching", "CausalConditionalCFM")(estimator=estimator, **decoder),
        **sizes,
    )
    flow.load_state_dict(state_dict(vocoder_dir / "flow.pt"))
    return flow.eval()


def load_hift(original: Path, vocoder_dir: Path) -> Any:
    """Build the original's `HiFTGenerator`.

    Raises:
        RuntimeError: a package that the original imports is missing.
    """
    sizes = plain_yaml(vocoder_dir / "cosyvoice.yaml")["hift"]
    predictor = _class(original, "hifigan.f0_predictor", "ConvRNNF0Predictor")(**sizes.pop("f0_predictor"))
    hift = _class(original, "hifigan.generator", "HiFTGenerator")(f0_predictor=predictor, **sizes)
    hift.load_state_dict(state_dict(vocoder_dir / "hift.pt"))
    return hift.eval()


def _class(original: Path, module: str, name: str) -> Any:
    if str(original) not in sys.path:
        sys.path.insert(0, str(original))
    try:
        return getattr(import_module(f"{PACKAGE}.{module}"), name)
    except ModuleNotFoundError as error:
        raise RuntimeError(f"the original's code needs the package {error.name}: pip install {error.name}") from error


def relative_rms(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the root mean square of the difference, relative to that of `expected`."""
    return float((actual - expected).norm() / expected.norm())
