import pytest
import torch

from export.flow import export, load, read_config
from python_backend.token2wav.torch_runtime import TorchRuntime
from tests.vocoder_golden import CHECKPOINT, DIRECTORY

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def config():
    return read_config(DIRECTORY)


@pytest.fixture(scope="session")
def flow():
    return load(DIRECTORY)


@pytest.fixture(scope="session")
def runtime(flow):
    return TorchRuntime(flow, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow")
    export(CHECKPOINT, folder)
    return folder
