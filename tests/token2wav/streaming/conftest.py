import numpy as np
import pytest
import torch

from python_backend.token2wav.streaming.flow import StreamingFlow
from tests.vocoder_golden import hift


@pytest.fixture(scope="session")
def streaming(flow, config):
    return StreamingFlow(flow, config)


@pytest.fixture(scope="session")
def vocoder():
    """The vocoder in torch; it also keeps every call's outputs."""
    return RecordingVocoder()


class RecordingVocoder:
    def __init__(self):
        self.calls = []

    @torch.inference_mode()
    def __call__(self, *inputs):
        for value, dtype in zip(inputs, (np.float32, np.int32, np.float32, np.float32, np.int32), strict=True):
            assert value.dtype == dtype
        waveform, _, source, f0 = hift()(*(torch.from_numpy(value)[None] for value in inputs))
        self.calls.append((source[0], f0[0]))
        return waveform[0].numpy(), source[0].numpy()
