"""The flow: conditional flow matching (Lipman et al., 2023) from tokens, voice and prompt to mel.

Half of the steps see whole utterances, half see them as a stream does: chunk by chunk, each with its past alone.
"""

import math
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from python_backend.token2wav.config import EncoderConfig, EstimatorConfig, FlowConfig
from python_backend.token2wav.dit import BLOCK_VECTORS, FINAL_VECTORS, MODULATION_EPS, Block, DiT
from python_backend.token2wav.encoder import relative_positions
from python_backend.token2wav.flow import Flow
from python_backend.token2wav.masks import valid_positions
from python_backend.token2wav.streaming.chunks import CHUNK_GROUPS
from python_backend.token2wav.tokens import PAIRS_PER_GROUP
from training.loop import Schedule, train
from training.pairs import FRAMES_PER_GROUP, MelBatch, Pairs

VOCAB = 5121
CONFIG = FlowConfig(
    vocab_size=VOCAB,
    mel_channels=80,
    speaker_size=192,
    guidance=0.7,
    encoder=EncoderConfig(
        input_size=96,
        output_size=96,
        attention_heads=3,
        linear_units=256,
        num_blocks=3,
        num_up_blocks=1,
        pre_lookahead_len=3,
        up_stride=2,
        key_bias=True,
    ),
    estimator=EstimatorConfig(
        in_channels=320, out_channels=80, hidden_size=128, depth=5, num_heads=4, head_dim=32, mlp_ratio=2.0
    ),
)
SCHEDULE = Schedule(steps=15_000, rate=1e-3, warmup=500)
BATCH_GROUPS = 700  # of prompts and targets with their padding, 84 s
CHUNKED = 0.5  # of the steps
WITHOUT_CONDITION = 0.2  # of the rows, so that guidance has something to point away from
MU_WEIGHT = 0.3  # of the encoder's own guess at the mel; it teaches the encoder long before the flow can
CONTEXT_FRAMES = 96  # of the past, next to the prompt, that the estimator keeps in a stream


def run(pairs: Pairs, folder: Path, device: torch.device, effort: float = 1.0) -> None:
    """Train the flow; leaves `flow.pt` in `folder`."""
    network = build().to(device)

    def draw(step: int) -> MelBatch:
        return pairs.mel_batch(np.random.default_rng(step), BATCH_GROUPS)

    def loss(batch: MelBatch, step: int) -> dict[str, Tensor]:
        return losses(network, batch, np.random.default_rng([step, 1]), device)

    train(network, draw, loss, SCHEDULE.scaled(effort), folder, "flow", device)
    torch.save(network.state_dict(), folder / "flow.pt")


def build() -> Flow:
    """Make the network before training: every block of the estimator starts as the identity (Peebles & Xie, 2023)."""
    network = Flow(CONFIG)
    for name, parameter in network.decoder.estimator.named_parameters():
        if "adaLN_modulation" in name or name.startswith("final_layer.linear"):
            nn.init.zeros_(parameter)
    return network


def losses(network: Flow, batch: MelBatch, generator: np.random.Generator, device: torch.device) -> dict[str, Tensor]:
    """Compare the velocity, and the encoder's mel, with the truth.

    The prompt's frames count as well: a solve goes through them too, and the others attend to what becomes of them.
    """
    groups = batch.tokens.shape[1] // (FRAMES_PER_GROUP // 2)
    tokens, mel, prompt_mel, speaker = (
        torch.from_numpy(value).to(device) for value in (batch.tokens, batch.mel, batch.prompt_mel, batch.speaker)
    )
    lengths, prompts = (torch.from_numpy(value).to(device) for value in (batch.lengths, batch.prompts))
    size = groups * FRAMES_PER_GROUP
    valid = valid_positions(lengths * FRAMES_PER_GROUP, size)
    chunked = generator.random() < CHUNKED
    ends = _chunk_ends(groups, generator) if chunked else None
    mask, encoder_mask = _masks(prompts, valid, ends)

    mu = _mu(network, tokens, lengths, prompts if chunked else None, encoder_mask)
    kept = torch.from_numpy(generator.random(len(mel)) >= WITHOUT_CONDITION).to(device)[:, None, None]
    context = network.decoder.estimator.context(mu, network.speaker(speaker), prompt_mel) * kept
    uniform = torch.from_numpy(generator.random(len(mel), dtype=np.float32)).to(device)
    time = 1 - torch.cos(uniform * (0.5 * math.pi))
    noise = torch.from_numpy(generator.standard_normal(mel.shape, dtype=np.float32)).to(device)
    x = noise + time[:, None, None] * (mel - noise)
    velocity = _velocity(network.decoder.estimator, x, context, time, mask)
    return {
        "flow": (velocity.float() - (mel - noise))[valid].square().mean(),
        "mu": MU_WEIGHT * (mu.float() - mel)[valid].abs().mean(),
    }


def _chunk_ends(groups: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return where chunks end, in groups after the prompt: the sizes a stream may choose, the smallest first."""
    return np.cumsum([CHUNK_GROUPS[0], *generator.choice(CHUNK_GROUPS, size=groups // CHUNK_GROUPS[0] + 1)])


def _masks(prompts: Tensor, valid: Tensor, ends: NDArray[np.int64] | None) -> tuple[Tensor, Tensor]:
    """Say what each frame may attend to, bool [B, 1, T, T]: in the estimator, and in the encoder.

    In a stream, whose chunks end at `ends`, the prompt knows itself alone, a chunk knows the prompt, itself and its
    past; of the past the estimator remembers `CONTEXT_FRAMES`.
    """
    size = valid.shape[1]
    keys = valid[:, None, None, :]
    if ends is None:
        every = keys.expand(-1, 1, size, -1)
        return every, every
    frame = torch.arange(size, device=valid.device)
    behind = frame[None] - (prompts * FRAMES_PER_GROUP)[:, None]  # frames since the prompt's end
    chunk = torch.bucketize(behind // FRAMES_PER_GROUP, torch.from_numpy(ends).to(valid.device), right=True)
    chunk = torch.where(behind < 0, -1, chunk)
    starts = torch.from_numpy(np.concatenate([[0], ends])).to(valid.device)[chunk.clamp(min=0)] * FRAMES_PER_GROUP
    past = chunk[:, :, None] >= chunk[:, None, :]
    recent = (behind[:, None, :] < 0) | (behind[:, None, :] >= (starts - CONTEXT_FRAMES)[:, :, None])
    past = past[:, None] & keys
    # A row of padding may look at itself, so that its softmax is defined.
    itself = torch.eye(size, dtype=torch.bool, device=valid.device)
    return (past & recent[:, None]) | itself, past | itself


def _mu(network: Flow, tokens: Tensor, lengths: Tensor, prompts: Tensor | None, mask: Tensor) -> Tensor:
    """Encode as `UpsampleEncoder.forward` does, under another mask; with `prompts`, as a stream does."""
    encoder = network.encoder
    embedded = encoder.embed(network.input_embedding(tokens))
    embedded = embedded * valid_positions(lengths * PAIRS_PER_GROUP, embedded.shape[1])[..., None]
    x = encoder.pre_lookahead_layer(embedded) if prompts is None else _streamed_lookahead(network, embedded, prompts)
    closed_frames = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -1e9)
    closed_pairs = closed_frames[:, :, ::2, ::2]
    for blocks, closed in ((encoder.encoders, closed_pairs), (encoder.up_encoders, closed_frames)):
        if blocks is encoder.up_encoders:
            x = encoder.up_embed(encoder.up_layer(x))
        positions = relative_positions(x.shape[1], x.shape[2], x.device)
        for block in blocks:
            x = block(x, positions, closed.to(x.dtype))
    return network.encoder_proj(encoder.after_norm(x))


def _streamed_lookahead(network: Flow, embedded: Tensor, prompts: Tensor) -> Tensor:
    """Apply the look-ahead where the prompt, set up before its stream is there, is followed by its own beginning."""
    layer = network.encoder.pre_lookahead_layer
    ahead, place = layer.lookahead, torch.arange(embedded.shape[1], device=embedded.device)
    size = (prompts * PAIRS_PER_GROUP)[:, None]
    is_prompt = (place < size)[..., None]
    again = torch.where(place < size, place, (place - size) % size)[..., None].expand_as(embedded)

    def first(x: Tensor) -> Tensor:
        return F.leaky_relu(layer.conv1(F.pad(x.transpose(1, 2), (0, ahead)))).transpose(1, 2)

    y = torch.where(is_prompt, first(embedded.gather(1, again)), first(embedded))
    return embedded + layer.conv2(F.pad(y.transpose(1, 2), (2, 0))).transpose(1, 2)


def _velocity(estimator: DiT, x: Tensor, context: Tensor, time: Tensor, mask: Tensor) -> Tensor:
    """Evaluate as `DiT.forward` does, with a time of its own for each row."""
    vectors = estimator.modulation(time)
    hidden = F.linear(x, estimator.in_proj.weight[:, : estimator.mel_channels], estimator.in_proj.bias) + context

    def norm(shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(hidden, (hidden.shape[2],), eps=MODULATION_EPS) * (1 + scale[:, None]) + shift[:, None]

    for index, block in enumerate(cast("list[Block]", estimator.blocks)):
        own = vectors[:, index * BLOCK_VECTORS : (index + 1) * BLOCK_VECTORS].unbind(1)
        attn_shift, attn_scale, attn_gate, mlp_shift, mlp_scale, mlp_gate, conv_shift, conv_scale, conv_gate = own
        hidden = hidden + attn_gate[:, None] * block.attn(norm(attn_shift, attn_scale), mask)
        hidden = hidden + conv_gate[:, None] * block.conv(norm(conv_shift, conv_scale))
        hidden = hidden + mlp_gate[:, None] * block.mlp(norm(mlp_shift, mlp_scale))
    shift, scale = vectors[:, -FINAL_VECTORS:].unbind(1)
    return estimator.final_layer.linear(norm(shift, scale))
