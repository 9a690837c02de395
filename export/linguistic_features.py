"""What the linguistic tokenizer's encoder hears: Kaldi filterbank, stacked frames, mean and variance normalisation."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from export.features import FRAME_LENGTH, FRAME_SHIFT, KaldiFbank, frames, hamming, pad_to_blocks
from python_backend.noise import gaussian

CHUNK = 4  # stacked frames the streaming front end makes of one chunk
INT16 = 32_768.0


class LinguisticFeatures(nn.Module):
    """FunASR's streaming front end (`WavFrontendOnline`) for a whole clip at once, with its exact number of frames.

    Each output frame stacks `stack` filterbank frames and moves on by `stride`; the first and the last filterbank frame
    repeat past the ends.

    Args:
        mels: filterbank bins.
        stack: filterbank frames per output frame (`lfr_m`), odd.
        stride: filterbank frames between output frames (`lfr_n`).
        shift: added to each value, float32 [stack * mels].
        scale: multiplied after that, float32 [stack * mels].
    """

    NOISE_FRAMES = 512
    NOISE_SEED = 0

    shift: Tensor
    scale: Tensor
    noise: Tensor

    def __init__(self, mels: int, stack: int, stride: int, shift: NDArray[np.float32], scale: NDArray[np.float32]):
        super().__init__()
        self.stack, self.stride = stack, stride
        self.fbank = KaldiFbank(mels, hamming)
        noise = gaussian(self.NOISE_SEED, "dither", 0, self.NOISE_FRAMES * FRAME_LENGTH)
        self.register_buffer("shift", torch.from_numpy(shift), persistent=False)
        self.register_buffer("scale", torch.from_numpy(scale), persistent=False)
        self.register_buffer("noise", torch.from_numpy(noise).reshape(-1, FRAME_LENGTH), persistent=False)

    @property
    def chunk_samples(self) -> int:
        """Samples the streaming front end takes at a time."""
        return CHUNK * self.stride * FRAME_SHIFT

    def forward(self, audio: Tensor, length: Tensor, dither: Tensor) -> tuple[Tensor, Tensor]:
        """Turn clips into encoder input.

        Args:
            audio: float32 [B, N] in [-1, 1], 16 kHz; what lies past a clip's length is ignored.
            length: int64 [B, 1], samples per clip.
            dither: float32 [B, 1], noise amplitude in steps of 16-bit audio. Kaldi adds such noise to every frame;
                without it digital silence lies at the logarithm's floor, where the encoder never was.

        Returns:
            Features float32 [B, T, stack * mels] with T a multiple of 4, and the true number of frames int64 [B, 1].
        """
        audio = torch.where(torch.arange(audio.shape[1]) < length, audio, 0.0)
        audio = F.pad(audio, (0, 1))  # so that no tensor below is empty, however short the clip
        chunks = (audio.shape[1] + self.chunk_samples - 1) // self.chunk_samples
        framed = frames(pad_to_blocks(audio)) * INT16
        noise = self.noise.repeat(framed.shape[1] // self.NOISE_FRAMES + 1, 1)[: framed.shape[1]]
        fbank = self.fbank(framed + dither[:, :, None] * noise)

        last = ((length - FRAME_LENGTH) // FRAME_SHIFT).clamp(min=0)
        first_of_stack = torch.arange(CHUNK * chunks)[:, None] * self.stride - self.stack // 2
        wanted = first_of_stack + torch.arange(self.stack)
        wanted = torch.minimum(wanted.clamp(min=0), last[:, :, None])  # [B, T, stack]
        row = wanted + torch.arange(fbank.shape[0])[:, None, None] * fbank.shape[1]
        stacked = F.embedding(row, fbank.flatten(0, 1)).flatten(2)
        return (stacked + self.shift) * self.scale, self.frame_count(length)

    def frame_count(self, length: Tensor) -> Tensor:
        """Return the frames the streaming front end makes of `length` samples; it can be one less than an offline one.

        It takes whole chunks; of the rest it makes frames only when that fills one stack. A chunk leaves 320 samples
        and `stack - stride` filterbank frames to the next; before the first there are `stack // 2` copies instead.
        """
        chunks = length // self.chunk_samples
        carried = torch.where(chunks > 0, FRAME_LENGTH // FRAME_SHIFT * FRAME_SHIFT, 0)
        rest = length - chunks * self.chunk_samples + carried
        fbank = torch.where(rest >= FRAME_LENGTH, (rest - FRAME_LENGTH) // FRAME_SHIFT + 1, 0)
        fbank = fbank + torch.where(chunks > 0, self.stack - self.stride, self.stack // 2)
        more = (fbank - self.stack // 2 + self.stride - 1) // self.stride
        return CHUNK * chunks + torch.where(fbank >= self.stack, more, 0)
