"""The speaker encoder: 16 kHz waveform → CAM++ embedding of the voice."""

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from export.checkpoint import Checkpoint, CheckpointError
from export.features import FRAME_LENGTH, FRAME_SHIFT, SAMPLE_RATE, KaldiFbank, frames, pad_to_blocks, povey
from export.onnx_graph import front_end, inputs_of, opset_of, per_clip_model

MELS = 80
SHORTEST = 1_600  # a tenth of a second: CAM++ takes a standard deviation over a few frames


class SpeakerFeatures(nn.Module):
    """Kaldi filterbank of samples in [-1, 1], without dither, minus its mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.fbank = KaldiFbank(MELS, povey)

    def forward(self, clip: Tensor) -> Tensor:
        """Turn a clip [1, N >= 400] into features [1, (N - 400) // 160 + 1, 80]."""
        count = (clip.shape[1] - FRAME_LENGTH) // FRAME_SHIFT + 1
        fbank = self.fbank(frames(pad_to_blocks(clip))[:, :count])
        return fbank - fbank.mean(dim=1, keepdim=True)


def export(checkpoint: Checkpoint, destination: Path) -> None:
    """Write `model.onnx` for the speaker encoder of `checkpoint` into the folder `destination`.

    Inputs `audio` float32 [B, N] and `audio_length` int32 [B, 1]; output `speaker_embedding` float32 [B, 192]. A clip
    below a tenth of a second has none: it is taken to be that long, whatever lies behind it.

    Raises:
        CheckpointError: the checkpoint has no speaker encoder, or one with other inputs.
    """
    path = checkpoint.require("campplus_onnx")
    network = onnx.load(path)
    inputs = inputs_of(network.graph)
    if len(inputs) != 1:
        raise CheckpointError(f"{path}: expected features alone, found {[value.name for value in inputs]}")
    model = per_clip_model(
        network,
        front_end(SpeakerFeatures(), torch.zeros(1, SAMPLE_RATE), 1, opset_of(network)),
        name="speaker_encoder",
        shortest=SHORTEST,
        outputs={"speaker_embedding": "float[batch, 192]"},
        per_clip="""
            fbank = Features(clip)
            embedding = Network(fbank)
            row_speaker_embedding = Reshape(embedding, flat)
        """,
    )
    onnx.save(model, destination / "model.onnx")
