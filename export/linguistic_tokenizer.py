"""The linguistic tokenizer (vq02): 16 kHz waveform → k-means codes of a Paraformer encoder, 16.67 per second."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.checkpoint import Checkpoint, CheckpointError, check_config, kaldi_cmvn, plain_yaml, state_dict
from export.features import SAMPLE_RATE
from export.linguistic_features import CHUNK, LinguisticFeatures
from export.sanm_encoder import SanmEncoder

LONGEST_SECONDS = 61  # a clip of 60 s is padded a little for its trimmed ends
OPSET = 17

# What the code takes for granted; another value would need other code.
EXPECTED = {
    "encoder": "SANMEncoderChunkOpt",
    "encoder_conf": {
        "input_layer": "pe_online",
        "normalize_before": True,
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
    },
    "frontend": "WavFrontendOnline",
    "frontend_conf": {"fs": SAMPLE_RATE, "window": "hamming", "frame_length": 25, "frame_shift": 10},
}


class LinguisticTokenizer(nn.Module):
    """Features, encoder and nearest centroid in one network.

    Args:
        features: makes the encoder's input.
        encoder: the SANM encoder.
        centroids: float32 [codes, size].
    """

    negative_twice: Tensor
    squared: Tensor

    def __init__(self, features: LinguisticFeatures, encoder: SanmEncoder, centroids: NDArray[np.float32]):
        super().__init__()
        self.features, self.encoder = features, encoder
        centre = torch.from_numpy(centroids)
        self.register_buffer("negative_twice", -2.0 * centre, persistent=False)
        self.register_buffer("squared", (centre.double() ** 2).sum(dim=1).float(), persistent=False)

    def forward(self, audio: Tensor, audio_length: Tensor, dither: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokenize a padded batch of clips.

        Args:
            audio: float32 [B, N] in [-1, 1], 16 kHz.
            audio_length: int32 [B, 1], samples per clip; the rest of a row is padding.
            dither: float32 [B, 1]: 1 adds the fixed noise, 0 none.

        Returns:
            Codes int32 [B, n], codes per clip int32 [B, 1], encoder input float32 [B, n, features] and encoder output
            float32 [B, n, size]. Only a clip's first codes and frames count.
        """
        features, count = self.features(audio, audio_length.long(), dither)
        encoded = self.encoder(features, count)
        # |x - c|² = |x|² - 2xc + |c|²; the first term is the same for every centroid.
        distance = nn.functional.linear(encoded.flatten(0, 1), self.negative_twice, self.squared)
        codes = distance.argmin(dim=1).to(torch.int32).reshape(encoded.shape[:2])
        return codes, count.to(torch.int32), features, encoded

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> "LinguisticTokenizer":
        """Build the network from a checkpoint.

        Raises:
            CheckpointError: a file is missing, of another architecture, or does not fit the others.
        """
        folder = checkpoint.require("linguistic_dir")
        config = plain_yaml(folder / "config.yaml")
        check_config(config, EXPECTED, str(folder / "config.yaml"))
        frontend, encoder_conf = config["frontend_conf"], config["encoder_conf"]
        shift, scale = kaldi_cmvn(folder / "am.mvn")
        centroids = np.load(checkpoint.require("centroids"), allow_pickle=False).astype(np.float32)
        features = LinguisticFeatures(frontend["n_mels"], frontend["lfr_m"], frontend["lfr_n"], shift, scale)
        inputs, size = frontend["n_mels"] * frontend["lfr_m"], encoder_conf["output_size"]
        if shift.size != inputs or centroids.ndim != 2 or centroids.shape[1] != size:
            raise CheckpointError(
                f"{folder}: features of {inputs} and width {size} do not fit am.mvn ({shift.size}) "
                f"and centroids {list(centroids.shape)}"
            )
        encoder = SanmEncoder(
            inputs=inputs,
            size=size,
            heads=encoder_conf["attention_heads"],
            units=encoder_conf["linear_units"],
            blocks=encoder_conf["num_blocks"],
            kernel=encoder_conf["kernel_size"],
            longest=(LONGEST_SECONDS * SAMPLE_RATE // features.chunk_samples + 1) * CHUNK,
        )
        prefix = "encoder."
        weights = state_dict(folder / "model.pt")
        encoder.load_state_dict({k.removeprefix(prefix): v.float() for k, v in weights.items() if k.startswith(prefix)})
        return cls(features, encoder, centroids).eval()


def export(checkpoint: Checkpoint, destination: Path) -> None:
    """Write `model.onnx` for the linguistic tokenizer of `checkpoint` into the folder `destination`.

    The file also offers `features` and `encoder_output`, which Triton's config leaves out, for parity tests.

    Raises:
        CheckpointError: the checkpoint lacks a part or holds another architecture.
    """
    network = LinguisticTokenizer.load(checkpoint)
    seconds = torch.zeros(2, SAMPLE_RATE)
    length = torch.full((2, 1), SAMPLE_RATE, dtype=torch.int32)
    outputs = ["codes", "codes_length", "features", "encoder_output"]
    per_code = {0: "batch", 1: "codes"}
    with torch.inference_mode():
        torch.onnx.export(
            network,
            (seconds, length, torch.zeros(2, 1)),
            str(destination / "model.onnx"),
            input_names=["audio", "audio_length", "dither"],
            output_names=outputs,
            dynamic_axes={
                "audio": {0: "batch", 1: "samples"},
                "audio_length": {0: "batch"},
                "dither": {0: "batch"},
                "codes": per_code,
                "codes_length": {0: "batch"},
                "features": per_code,
                "encoder_output": per_code,
            },
            opset_version=OPSET,
            dynamo=False,
        )
