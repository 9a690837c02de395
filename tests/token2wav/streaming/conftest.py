import numpy as np
import onnxruntime
import pytest
import torch

from export.vocoder import INPUTS, OUTPUTS, export
from python_backend.token2wav.streaming.flow import StreamingFlow
from tests.vocoder_golden import CHECKPOINT, hift


@pytest.fixture(scope="session")
def streaming(flow, config):
    return StreamingFlow(flow, config)


@pytest.fixture(scope="session", params=["torch", "onnxruntime"])
def vocoder(request, tmp_path_factory):
    """The vocoder of the small checkpoint; it also keeps the source and F0 of every call."""
    if request.param == "torch":
        return RecordingVocoder(in_torch)
    folder = tmp_path_factory.mktemp("vocoder")
    export(CHECKPOINT, folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    return RecordingVocoder(lambda *inputs: session.run(OUTPUTS, dict(zip(INPUTS, inputs, strict=True))))


@torch.inference_mode()
def in_torch(*inputs):
    return [output.numpy() for output in hift()(*map(torch.from_numpy, inputs))]


class RecordingVocoder:
    def __init__(self, run):
        self.run = run
        self.calls = []

    def __call__(self, *inputs):
        for value, dtype in zip(inputs, (np.float32, np.int32, np.float32, np.float32, np.int32), strict=True):
            assert value.dtype == dtype
        waveform, _, source, f0 = (output[0] for output in self.run(*(value[None] for value in inputs)))
        self.calls.append((source, f0))
        return waveform, source
