"""Flow and HiFT in the released layout, `cosyvoice.yaml`, `flow.pt` and `hift.pt`, with random weights."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from export.flow import read_config as read_flow_config
from export.hift import Hift
from export.vocoder import DIRECTION, GAIN, fold_weight_norm
from export.vocoder import read_config as read_hift_config
from python_backend.token2wav.flow import Flow

LEVEL = 0.12  # root mean square of the waveform that random mel gives
F0_HZ = 150.0
PLAIN_CONVOLUTIONS = "source_downs"  # the only convolutions of the released file without weight normalisation


@dataclass(frozen=True)
class VocoderSizes:
    """What differs between a demo and a released checkpoint."""

    width: int
    encoder_blocks: int
    up_blocks: int
    encoder_heads: int
    linear_units: int
    depth: int
    hidden: int
    heads: int
    head_dim: int
    hift_channels: int
    f0_channels: int
    mlp_ratio: float = 4.0


SIZES = {
    "demo": VocoderSizes(128, 2, 1, 4, 256, 4, 128, 4, 32, 64, 64),
    "released": VocoderSizes(512, 6, 4, 8, 2048, 16, 512, 8, 64, 512, 512),
}

YAML = """\
# {note}
mel_conf:
    num_mels: 80
    n_fft: 1920
    hop_size: 480
    win_size: 1920
    sampling_rate: 24000
    fmin: 0
    fmax: 8000

flow: !new:stepvocoder.cosyvoice2.flow.flow.CausalMaskedDiffWithXvec
    input_size: {width}
    output_size: 80
    spk_embed_dim: 192
    output_type: 'mel'
    vocab_size: 5121
    input_embedding: !new:stepvocoder.cosyvoice2.embedding.dual_codebook.DualCodebookEmbedding
        vocab_size: 5121
        input_size: {width}
    encoder: !new:stepvocoder.cosyvoice2.transformer.upsample_encoder_v2.UpsampleConformerEncoderV2
        input_size: {width}
        output_size: {width}
        input_layer: 'linear'
        pre_lookahead_len: 3
        num_blocks: {encoder_blocks}
        num_up_blocks: {up_blocks}
        up_stride: 2
        up_scale_factor: 2
        attention_heads: {encoder_heads}
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'rel_selfattn'
        key_bias: True
        linear_units: {linear_units}
        dropout_rate: 0.1
        positional_dropout_rate: 0.1
        attention_dropout_rate: 0.1
        normalize_before: True
    decoder: !new:stepvocoder.cosyvoice2.flow.flow_matching.CausalConditionalCFM
        inference_cfg_rate: 0.7
        estimator: !new:stepvocoder.cosyvoice2.flow.decoder_dit.DiT
            in_channels: 320
            out_channels: 80
            mlp_ratio: {mlp_ratio}
            depth: {depth}
            num_heads: {heads}
            head_dim: {head_dim}
            hidden_size: {hidden}

hift: !new:stepvocoder.cosyvoice2.hifigan.generator.HiFTGenerator
    in_channels: 80
    base_channels: {hift_channels}
    nb_harmonics: 8
    sampling_rate: 24000
    nsf_alpha: 0.1
    nsf_sigma: 0.003
    nsf_voiced_threshold: 10
    upsample_rates: [8, 5, 3]
    upsample_kernel_sizes: [16, 11, 7]
    istft_params:
        n_fft: 16
        hop_len: 4
    resblock_kernel_sizes: [3, 7, 11]
    resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
    source_resblock_kernel_sizes: [7, 7, 11]
    source_resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
    lrelu_slope: 0.1
    audio_limit: 0.99
    f0_predictor: !new:stepvocoder.cosyvoice2.hifigan.f0_predictor.ConvRNNF0Predictor
        num_class: 1
        in_channels: 80
        cond_channels: {f0_channels}
"""


def write_vocoder(directory: Path, sizes: Literal["demo", "released"], seed: int) -> None:
    """Write a random checkpoint that gives steady noise of speech level; the same seed gives the same weights."""
    directory.mkdir(parents=True, exist_ok=True)
    write_sizes(directory, SIZES[sizes], "Random weights with the structure of the released vocoder.")
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        flow, hift = Flow(read_flow_config(directory)), Hift(read_hift_config(directory))
    torch.save(_random_state(flow, generator), directory / "flow.pt")
    torch.save(_hift_state(hift, generator, directory), directory / "hift.pt")


def write_sizes(directory: Path, sizes: VocoderSizes, note: str) -> None:
    """Write `cosyvoice.yaml`, with `note` in its first line."""
    text = YAML.format(note=note, **vars(sizes))
    (directory / "cosyvoice.yaml").write_text(text, encoding="utf-8")


def _random_state(network: nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Draw every parameter so that activations keep their scale from layer to layer."""
    state = {}
    strides = {
        name: module.stride[0] for name, module in network.named_modules() if isinstance(module, nn.ConvTranspose1d)
    }
    for name, parameter in network.named_parameters():
        module, _, kind = name.rpartition(".")
        random = torch.randn(parameter.shape, generator=generator)
        if kind == "alpha":
            random = 1 + 0.2 * random
        elif kind == "weight" and parameter.dim() == 1:
            random = 1 + 0.1 * random
        elif kind == "weight" and not module.endswith("input_embedding.embedding"):
            fan_in = parameter.numel() / parameter.shape[0]
            if module in strides:
                fan_in = parameter.shape[0] * parameter.shape[2] / strides[module]
            random = random / math.sqrt(fan_in)
        elif kind != "weight":
            random = 0.1 * random
        state[name] = random
    return state


def _hift_state(hift: Hift, generator: torch.Generator, directory: Path) -> dict[str, torch.Tensor]:
    """Draw HiFT in the released form: F0 about `F0_HZ`, waveform level about `LEVEL`, weights normalised."""
    state = _random_state(hift, generator)
    state["f0_predictor.classifier.weight"] *= 0.1 * F0_HZ
    state["f0_predictor.classifier.bias"].fill_(F0_HZ)
    for name in state:
        # A residual branch adds to its input; full-size branches would grow the sum at every block.
        if ".convs2." in name:
            state[name] *= 0.3
    bins = hift.config.n_fft // 2 + 1
    state["conv_post.weight"][:bins] *= 0.5
    state["conv_post.bias"][:bins] += math.log(LEVEL / _level(state, directory, generator))
    return normalise(state)


def normalise(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return HiFT's weights as released: gain and direction of every convolution that has them there."""
    normalised = {}
    for name, tensor in state.items():
        if name.endswith(".weight") and tensor.dim() == 3 and not name.startswith(PLAIN_CONVOLUTIONS):
            module = name.removesuffix(".weight")
            normalised[module + GAIN] = tensor.flatten(1).norm(dim=1)[:, None, None]
            normalised[module + DIRECTION] = tensor
        else:
            normalised[name] = tensor
    return normalised


@torch.inference_mode()
def _level(state: dict[str, torch.Tensor], directory: Path, generator: torch.Generator) -> float:
    """Measure the level of the waveform that these weights give for half a second of random mel."""
    hift = Hift(read_hift_config(directory))
    hift.load_state_dict(fold_weight_norm(state))
    hift.fold()
    frames = 25
    mel = torch.randn(1, hift.config.in_channels, frames, generator=generator)
    noise = torch.randn(1, frames * hift.m_source.hop, generator=generator)
    none = torch.zeros(1, 1)
    waveform, *_ = hift(mel, torch.tensor([[frames]]), noise, none, none.to(torch.int64))
    return waveform.square().mean().sqrt().item()
