"""A network with the structure of `speech_tokenizer_v1.onnx`: Whisper-like encoder, nearest entry of a codebook."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.sanm_encoder import sinusoids

MELS = 128
CODES = 4096
POSITIONS = 1500
OPSET = 16


@dataclass(frozen=True)
class S3Sizes:
    """Width, heads and blocks of the encoder."""

    width: int
    heads: int
    blocks: int


class Attention(nn.Module):
    """Whisper's self-attention: no bias on keys, queries and keys scaled alike."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attend within [B, T, width]; `bias` [B, 1, 1, T] closes padded frames."""
        shape = (x.shape[0], -1, self.heads, x.shape[2] // self.heads)
        query, key, value = (part(x).reshape(shape).transpose(1, 2) for part in (self.query, self.key, self.value))
        scale = shape[3] ** -0.25
        weights = torch.softmax((query * scale) @ (key * scale).transpose(2, 3) + bias, dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn = Attention(width, heads)
        self.attn_ln = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map [B, T, width] to the same shape."""
        x = x + self.attn(self.attn_ln(x), bias)
        return x + self.mlp(self.mlp_ln(x))


class S3Tokenizer(nn.Module):
    """Log-mel to codes; the codebook starts as zeros."""

    positional_embedding: Tensor
    codebook: Tensor

    def __init__(self, sizes: S3Sizes):
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, sizes.width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(sizes.width, sizes.width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([Block(sizes.width, sizes.heads) for _ in range(sizes.blocks)])
        self.register_buffer("positional_embedding", sinusoids(POSITIONS, sizes.width))
        self.register_buffer("codebook", torch.zeros(sizes.width, CODES))

    def encode(self, feats: Tensor, feats_length: Tensor) -> Tensor:
        """Turn log-mel [B, 128, T] of `feats_length` [B] true frames into unit vectors [B, T / 4, width]."""
        present = torch.arange(feats.shape[2]) < feats_length[:, None]
        x = F.gelu(self.conv1(feats * present[:, None]))
        x = F.gelu(self.conv2(x * present[:, None, ::2])).transpose(1, 2)
        bias = torch.where(present[:, None, None, ::4], 0.0, -1e10)
        x = x + self.positional_embedding[: x.shape[1]]
        for block in self.blocks:
            x = block(x, bias)
        return F.normalize(x, dim=2)

    def forward(self, feats: Tensor, feats_length: Tensor) -> Tensor:
        """Return the codes int32 [1, T / 4] of log-mel [1, 128, T]."""
        x = self.encode(feats, feats_length)
        distance = (x**2).sum(dim=2, keepdim=True) - 2 * x @ self.codebook + (self.codebook**2).sum(dim=0)
        return distance.argmin(dim=2).to(torch.int32)

    def save(self, path: Path) -> None:
        """Write the network as ONNX with the inputs and the output of the released file."""
        example = (torch.zeros(1, MELS, 100), torch.tensor([100], dtype=torch.int32))
        with torch.inference_mode():
            torch.onnx.export(
                self.eval(),
                example,
                str(path),
                input_names=["feats", "feats_length"],
                output_names=["indices"],
                dynamic_axes={"feats": {2: "frames"}, "indices": {1: "codes"}},
                opset_version=OPSET,
                dynamo=False,
            )
