"""A network with the structure of `campplus.onnx` (Wang et al., CAM++, 2023): context-aware masks in a dense TDNN."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MELS = 80
EMBEDDING = 192
SEGMENT = 100  # frames whose mean is the local context
BOTTLENECK = 4  # inner width of a dense layer over its growth
OPSET = 16


@dataclass(frozen=True)
class CamPlusSizes:
    """Channels of the 2-D head, first width of the TDNN, growth per layer, layers of the three dense blocks."""

    head: int
    width: int
    growth: int
    blocks: tuple[int, int, int]


class ResidualBlock(nn.Module):
    """Two 2-D convolutions with a shortcut; the stride acts on frequency alone."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, channels, 1, stride=(stride, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [1, channels, bins, T] to [1, channels, bins / stride, T]."""
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class CamLayer(nn.Module):
    """A dilated convolution, masked by what the whole clip and the segment around sound like."""

    def __init__(self, inputs: int, growth: int, dilation: int):
        super().__init__()
        inner = BOTTLENECK * growth
        self.expand = nn.Sequential(nn.BatchNorm1d(inputs), nn.ReLU(), nn.Conv1d(inputs, inner, 1), nn.ReLU())
        self.local = nn.Conv1d(inner, growth, 3, padding=dilation, dilation=dilation)
        self.squeeze = nn.Conv1d(inner, inner // 2, 1)
        self.gate = nn.Conv1d(inner // 2, growth, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Append `growth` channels to [1, inputs, T]."""
        inner = self.expand(x)
        segment = F.avg_pool1d(inner, SEGMENT, SEGMENT, ceil_mode=True)
        segment = segment[..., None].expand(-1, -1, -1, SEGMENT).flatten(2)[..., : x.shape[2]]
        context = inner.mean(dim=2, keepdim=True) + segment
        mask = torch.sigmoid(self.gate(F.relu(self.squeeze(context))))
        return torch.cat([x, self.local(inner) * mask], dim=1)


class CamPlus(nn.Module):
    """Filterbank to speaker embedding."""

    def __init__(self, sizes: CamPlusSizes):
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(1, sizes.head, 3, padding=1),
            nn.ReLU(),
            *(ResidualBlock(sizes.head, stride) for stride in (2, 1, 2, 1)),
            nn.Conv2d(sizes.head, sizes.head, 3, stride=(2, 1), padding=1),
            nn.ReLU(),
        )
        width = sizes.width
        layers: list[nn.Module] = [nn.Conv1d(sizes.head * MELS // 8, width, 5, stride=2, padding=2), nn.ReLU()]
        for count, dilation in zip(sizes.blocks, (1, 2, 2), strict=True):
            for _ in range(count):
                layers.append(CamLayer(width, sizes.growth, dilation))
                width += sizes.growth
            layers += [nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, width // 2, 1)]
            width //= 2
        self.tdnn = nn.Sequential(*layers, nn.BatchNorm1d(width), nn.ReLU())
        self.dense = nn.Linear(2 * width, EMBEDDING)

    def forward(self, fbank: Tensor) -> Tensor:
        """Turn a filterbank [1, T, 80] into an embedding [1, 192]."""
        x = self.head(fbank.transpose(1, 2)[:, None])
        x = self.tdnn(x.flatten(1, 2))
        return self.dense(torch.cat([x.mean(dim=2), x.std(dim=2)], dim=1))

    def save(self, path: Path) -> None:
        """Write the network as ONNX with one input and one output, as the released file has."""
        with torch.inference_mode():
            torch.onnx.export(
                self.eval(),
                (torch.zeros(1, 300, MELS),),
                str(path),
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {1: "frames"}},
                opset_version=OPSET,
                dynamo=False,
            )
