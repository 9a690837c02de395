"""The semantic tokenizer (vq06): 16 kHz waveform → codes of the S3 tokenizer, 25 per second, up to 30 s at a time."""

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from export.checkpoint import Checkpoint, CheckpointError
from export.features import SAMPLE_RATE, WhisperLogMel
from export.onnx_graph import front_end, inputs_of, opset_of, per_clip_model

SHORTEST = 480  # Step-Audio-EditX drops shorter pieces; here they give no code
SAMPLES_PER_CODE = 640

LENGTH_TYPES: dict[int, torch.dtype] = {onnx.TensorProto.INT32: torch.int32, onnx.TensorProto.INT64: torch.int64}


class SemanticFeatures(nn.Module):
    """Whisper's log-mel and its number of frames, as `speech_tokenizer_v1.onnx` takes them."""

    def __init__(self, length_type: torch.dtype):
        super().__init__()
        self.log_mel = WhisperLogMel()
        self.length_type = length_type

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Turn a clip [1, N] into features [1, 128, N // 160] and their length [1]."""
        features = self.log_mel(clip)
        return features, torch.full((1,), features.shape[2], dtype=self.length_type)


def export(checkpoint: Checkpoint, destination: Path) -> None:
    """Write `model.onnx` for the semantic tokenizer of `checkpoint` into the folder `destination`.

    Inputs `audio` float32 [B, N] and `audio_length` int32 [B, 1]; outputs `codes` int32 [B, n] and `codes_length` int32
    [B, 1], 0 for a clip below 480 samples.

    Raises:
        CheckpointError: the checkpoint has no semantic tokenizer, or one with other inputs.
    """
    path = checkpoint.require("semantic_onnx")
    network = onnx.load(path)
    inputs = inputs_of(network.graph)
    types = [value.type.tensor_type.elem_type for value in inputs]
    if len(inputs) != 2 or types[1] not in LENGTH_TYPES:
        raise CheckpointError(f"{path}: expected features and their length, found {[value.name for value in inputs]}")
    features = SemanticFeatures(LENGTH_TYPES[types[1]])
    model = per_clip_model(
        network,
        front_end(features, torch.zeros(1, SAMPLE_RATE), 2, opset_of(network)),
        name="semantic_tokenizer",
        shortest=SHORTEST,
        outputs={"codes": "int32[batch, codes]", "codes_length": "int32[batch, 1]"},
        constants=f""", int64 samples_axis = {{1}}, int64[1] samples_per_code = {{{SAMPLES_PER_CODE}}},
            int64[1] to_round_up = {{{SHORTEST + SAMPLES_PER_CODE - 1}}}""",
        before="""
            samples = Gather(audio_shape, samples_axis)
            rounded = Add(samples, to_round_up)
            most_codes = Div(rounded, samples_per_code)
        """,
        per_clip="""
            feats, feats_length = Features(clip)
            indices = Network(feats, feats_length)
            indices_row = Reshape(indices, flat)
            found = Cast<to = 6>(indices_row)
            found_count = Shape(found)
            missing = Sub(most_codes, found_count)
            padding = Concat<axis = 0>(start, missing)
            row_codes = Pad(found, padding)
            long_enough = Not(too_short)
            one_or_none = Cast<to = 7>(long_enough)
            count = Mul(found_count, one_or_none)
            row_codes_length = Cast<to = 6>(count)
        """,
    )
    onnx.save(model, destination / "model.onnx")
