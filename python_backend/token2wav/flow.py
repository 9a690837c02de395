"""The whole flow as one torch module with the released parameter names: tokens to the velocity field of a mel."""

import torch
from torch import nn
from torch.nn import functional as F

from python_backend.token2wav.config import FlowConfig
from python_backend.token2wav.dit import DiT
from python_backend.token2wav.encoder import UpsampleEncoder


class DualCodebookEmbedding(nn.Module):
    """One table for both codebooks; the two embeddings of a pair stand side by side."""

    def __init__(self, vocab_size: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width // 2)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """Map integer [B, n, 2] to [B, n, width]."""
        return self.embedding(pairs).flatten(2)


class Decoder(nn.Module):
    """Holds the estimator under its released name."""

    def __init__(self, config: FlowConfig):
        super().__init__()
        self.estimator = DiT(config.estimator)


class Flow(nn.Module):
    """Encoder, speaker projection and estimator."""

    def __init__(self, config: FlowConfig):
        super().__init__()
        self.input_embedding = DualCodebookEmbedding(config.vocab_size, config.encoder.input_size)
        self.spk_embed_affine_layer = nn.Linear(config.speaker_size, config.mel_channels)
        self.encoder = UpsampleEncoder(config.encoder)
        self.encoder_proj = nn.Linear(config.encoder.output_size, config.mel_channels)
        self.decoder = Decoder(config)

    def mu(self, pairs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Encode token pairs.

        Args:
            pairs: int64 [B, n, 2], rows of the shared table.
            lengths: int64 [B], pairs that count.

        Returns:
            float32 [B, 2n, mel].
        """
        return self.encoder_proj(self.encoder(self.input_embedding(pairs), lengths))

    def speaker(self, embedding: torch.Tensor) -> torch.Tensor:
        """Project raw speaker embeddings [B, speaker_size] to [B, mel]."""
        return self.spk_embed_affine_layer(F.normalize(embedding, dim=1))

    def context(
        self, pairs: torch.Tensor, lengths: torch.Tensor, speaker_embedding: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """Compute all that a solve needs of its inputs.

        Args:
            pairs: int64 [B, n, 2], prompt then target.
            lengths: int64 [B], pairs that count.
            speaker_embedding: float32 [B, speaker_size], raw.
            condition: float32 [B, 2n, mel], prompt mel, zeros elsewhere.

        Returns:
            float32 [B, 2n, C].
        """
        return self.decoder.estimator.context(self.mu(pairs, lengths), self.speaker(speaker_embedding), condition)
