"""Random weights that keep the scale of what passes through a network."""

import torch
from torch import nn


def randomise(network: nn.Module, seed: int) -> None:
    """Draw every matrix and kernel of `network` with variance one over its inputs; biases small, norms untouched."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
            elif name.endswith("bias"):
                weight.normal_(0.0, 0.02, generator=generator)
