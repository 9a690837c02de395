"""Weights stored at half size."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from training.half import store_half


def test_a_network_keeps_its_answer_at_half_the_size(tmp_path: Path) -> None:
    path, x = tmp_path / "network.onnx", torch.randn(1, 64)
    network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8)).half().float()
    torch.onnx.export(network, (x,), str(path), input_names=["x"], output_names=["y"], dynamo=False)
    before = path.stat().st_size
    store_half(path)
    assert path.stat().st_size < 0.55 * before
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(["y"], {"x": x.numpy()})[0]
    np.testing.assert_allclose(found, network(x).detach().numpy(), atol=1e-5)
