"""Which tritonserver is run, and with which backends."""

import sys
from pathlib import Path

import pytest

from server import locate
from server.backends import STAND_INS, assemble, native
from server.locate import Home, find_home
from server.settings import ROOT, Settings, local_address
from server.triton import command, environment


@pytest.fixture
def container(tmp_path):
    """The layout of NVIDIA's container."""
    root = tmp_path / "opt"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "tritonserver").touch()
    for backend in ("python", "onnxruntime", "tensorrt"):
        (root / "backends" / backend).mkdir(parents=True)
        (root / "backends" / backend / f"libtriton_{backend}.so").touch()
    (root / "backends" / "python" / "triton_python_backend_stub").touch()
    (root / "backends" / "python" / "triton_python_backend_utils.py").touch()
    return root


def test_the_container_comes_first(container):
    home = find_home(container)
    assert home == Home("NVIDIA's container", container / "bin" / "tritonserver", container / "backends")


def test_the_wheel_comes_second(tmp_path):
    home = find_home(tmp_path)
    assert home is not None
    assert home.server.is_file()
    assert home.stubs is not None
    assert any((folder / f"libpython3.{sys.version_info.minor}.so.1.0").is_file() for folder in home.libraries)


def test_neither(monkeypatch, tmp_path):
    monkeypatch.setattr(locate.importlib.util, "find_spec", lambda _: None)
    assert find_home(tmp_path) is None


def test_a_complete_container_uses_its_own_backends(container, tmp_path):
    home = find_home(container)
    assert assemble(home, tmp_path / "run") == container / "backends"
    assert not (tmp_path / "run").exists()


def test_a_container_without_onnxruntime_gets_the_stand_in(container, tmp_path):
    (container / "backends" / "onnxruntime" / "libtriton_onnxruntime.so").unlink()
    (container / "backends" / "onnxruntime").rmdir()
    home = find_home(container)
    assert not native(home, "onnxruntime")
    made = assemble(home, tmp_path / "run")
    assert (made / "onnxruntime" / "model.py").resolve() == STAND_INS["onnxruntime"]
    assert (made / "tensorrt").resolve() == container / "backends" / "tensorrt"
    assert (made / "python" / "triton_python_backend_stub").exists()


def test_the_wheel_gets_both_stand_ins_and_the_stub_of_this_python(tmp_path):
    home = find_home(tmp_path / "no-container")
    made = assemble(home, tmp_path / "run")
    assert sorted(path.name for path in made.iterdir()) == ["onnxruntime", "python", "tensorrt"]
    assert not (made / "python" / "libtriton_python.so").is_symlink()
    assert f"3.{sys.version_info.minor}" in str((made / "python" / "triton_python_backend_stub").resolve())


def test_the_command_serves_the_given_models_on_the_given_ports(container, tmp_path):
    anywhere = "0.0.0.0"  # noqa: S104
    settings = Settings(model_repository=tmp_path, triton_host=anywhere, http_port=1, grpc_port=2, metrics_port=3)
    line = command(settings, find_home(container), ["a", "b"], tmp_path / "backends", "stepaudio_1_")
    assert line[0] == str(container / "bin" / "tritonserver")
    for option in (
        f"--model-repository={tmp_path}",
        "--disable-auto-complete-config",
        "--load-model=a",
        "--load-model=b",
        "--http-address=0.0.0.0",
        "--grpc-port=2",
        "--backend-config=python,shm-region-prefix-name=stepaudio_1_",
    ):
        assert option in line
    assert settings.triton_client_host == "127.0.0.1"
    assert local_address("10.0.0.7") == "10.0.0.7"


def test_the_environment_leads_the_stub_to_this_python_and_this_project():
    home = Home("a wheel", Path("s"), Path("b"), Path("stubs"), (Path("/lib1"), Path("/lib2")))
    made = environment(home, {"PATH": "/usr/bin", "PYTHONPATH": "/mine", "OMP_NUM_THREADS": "1"})
    assert made["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert made["PYTHONPATH"] == f"{ROOT}:/mine"
    assert made["LD_LIBRARY_PATH"] == "/lib1:/lib2"
    assert made["OMP_NUM_THREADS"] == "1"
    assert made["ORT_DISABLE_TELEMETRY"] == "1"
    assert "LD_LIBRARY_PATH" not in environment(Home("container", Path("s"), Path("b")), {})
