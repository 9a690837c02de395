"""How many threads torch computes with on a CPU."""

import torch
from torch import nn

# Below it, joining threads after every operation takes longer than it saves: with 5 M parameters, a decoding step took
# 1.4 ms on one thread and 2.1 to 3.4 ms on two, and the waiting threads took their time from the other models.
WORTH_SHARING = 30_000_000


def suit(network: nn.Module) -> None:
    """Let this process compute on one thread if `network` is small; call before its first step."""
    if sum(parameter.numel() for parameter in network.parameters()) < WORTH_SHARING:
        torch.set_num_threads(1)
