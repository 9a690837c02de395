"""Each check of the preflight by itself; tests/server/test_lifecycle.py runs them through the command."""

import importlib.util
import socket
from dataclasses import replace
from types import SimpleNamespace

import pytest

from server import preflight
from server.locate import Home, find_home
from server.repository import read_repository
from server.settings import Settings
from tests import servers
from tests.server import toy


@pytest.fixture
def settings(tmp_path):
    toy.python_model(tmp_path / "models", "echo", toy.ECHO)
    gateway, http, grpc, metrics = servers.free_ports(4)
    return Settings(
        model_repository=tmp_path / "models",
        port=gateway,
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        first_words=tmp_path / "out" / "first-words.wav",
    )


@pytest.fixture
def home():
    found = find_home()
    assert found is not None
    return found


@pytest.fixture
def wheel(tmp_path, home):
    """The wheel, whatever tritonserver this machine runs."""
    return home if home.stubs is not None else replace(home, stubs=tmp_path)


def only(problems):
    assert len(problems) == 1, problems
    return f"{problems[0].what} -> {problems[0].remedy}"


def test_nothing_is_wrong_here(settings, home):
    assert preflight.check(settings, home) == []


def test_no_tritonserver(settings):
    assert "no tritonserver found" in only(preflight.check(settings, None))


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "aarch64")])
def test_the_wheel_is_for_one_platform(monkeypatch, settings, wheel, system, machine):
    monkeypatch.setattr(preflight.sys, "platform", system)
    monkeypatch.setattr(preflight.platform, "machine", lambda: machine)
    assert "WSL2" in only(list(preflight._wheel(wheel)))


def test_an_old_c_library(monkeypatch, wheel):
    monkeypatch.setattr(preflight.platform, "libc_ver", lambda: ("glibc", "2.31"))
    assert "glibc 2.31, the tritonserver wheel needs glibc 2.35" in only(list(preflight._wheel(wheel)))


def test_another_python(monkeypatch, wheel):
    monkeypatch.setattr(preflight, "PYTHONS", ((3, 99),))
    assert "is not one the models run on -> make the .venv with Python 3.11" in only(list(preflight._wheel(wheel)))


def test_a_python_without_shared_library(monkeypatch, wheel):
    monkeypatch.setattr(preflight.sysconfig, "get_config_var", lambda _: "/nowhere")
    monkeypatch.setattr(preflight.sys, "base_prefix", "/nowhere")
    monkeypatch.setattr(preflight.ctypes.util, "find_library", lambda _: None)
    assert "without a shared library -> apt install libpython" in only(list(preflight._wheel(wheel)))


def test_numpy_2_does_not_work_with_the_wheel(monkeypatch, settings, wheel):
    monkeypatch.setattr(preflight, "version", lambda _: "2.4.1")
    assert "numpy 2.4.1 does not work" in only(list(preflight._packages(settings, wheel)))


def test_missing_packages_are_named_together(monkeypatch, settings, home):
    real = importlib.util.find_spec
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda n: None if n in ("fastapi", "grpc") else real(n))
    assert "not installed: fastapi, grpc ->" in only(list(preflight._packages(settings, home)))
    assert list(preflight._packages(replace(settings, gateway=False), home)) == []


def test_a_taken_port_names_its_option(settings, home):
    with socket.create_server(("127.0.0.1", settings.grpc_port)):
        said = only(preflight.check(settings, home))
    assert said == f"port {settings.grpc_port} for Triton's gRPC is taken -> choose another one with --triton-grpc-port"


def test_one_port_given_twice(settings, home):
    said = only(preflight.check(replace(settings, metrics_port=settings.port), home))
    assert "is given to both the gateway and Triton's metrics" in said


def test_too_little_space(monkeypatch, settings, home):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=64_000_000, total=64_000_000))
    disk, memory = preflight.check(settings, home)
    assert "64 MB of disk left" in disk.what
    assert "64 MB left in /dev/shm" in memory.what
    assert "--shm-size=1g" in memory.remedy


def test_a_folder_that_cannot_be_written(monkeypatch, settings, home):
    monkeypatch.setattr(preflight.os, "access", lambda *_: False)
    assert "is not writable -> choose another place with --first-words" in only(preflight.check(settings, home))


def test_models_that_are_not_exported(settings, home):
    toy.onnx_model(settings.model_repository, "net")
    (settings.model_repository / "net" / "1" / "model.onnx").unlink()
    toy.python_model(
        settings.model_repository,
        "llm",
        toy.ECHO,
        'parameters { key: "weights" value: { string_value: "config.json *.safetensors" } }\n',
    )
    (settings.model_repository / "llm" / "1" / "config.json").touch()
    said = [problem.what for problem in preflight.check(settings, home)]
    assert [what.partition(" missing")[0] for what in said] == [
        "llm is not exported: *.safetensors",
        "net is not exported: model.onnx",
    ]


def test_a_model_the_system_does_without(settings, home):
    config = """parameters { key: "weights" value: { string_value: "*.safetensors" } }
parameters { key: "optional" value: { string_value: "true" } }
"""
    toy.python_model(settings.model_repository, "extra", toy.ECHO, config)

    def left_out():
        assert preflight.check(settings, home) == []
        return [model.name for model in read_repository(settings.model_repository) if model.left_out]

    assert left_out() == ["extra"]
    (settings.model_repository / "extra" / "1" / "model.safetensors").touch()
    assert left_out() == []


def test_a_plan_where_there_is_no_tensorrt(settings, tmp_path):
    folder = settings.model_repository / "plan"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text('name: "plan"\nbackend: "tensorrt"\n')
    bare = Home("a bare server", tmp_path, tmp_path)
    assert any("plan is a TensorRT plan" in problem.what for problem in preflight.check(settings, bare))


def test_an_empty_or_broken_repository(settings, home, tmp_path):
    assert "holds no model" in only(preflight.check(replace(settings, model_repository=tmp_path / "none"), home))
    (settings.model_repository / "echo" / "config.pbtxt").write_text("name: {")
    assert "unreadable model configuration" in only(preflight.check(settings, home))


def test_one_variant_of_the_language_model_suffices(settings, home):
    weights = 'parameters { key: "weights" value: { string_value: "*.safetensors" } }\n'
    for variant in ("base", "bnb"):
        toy.python_model(settings.model_repository, f"llm_{variant}", toy.ECHO, weights)
        engine = f'parameters {{ key: "engine" value: {{ string_value: "llm_{variant}" }} }}\n'
        toy.python_model(settings.model_repository, f"llm_{variant}_unary", toy.ECHO, engine)
        ensemble = settings.model_repository / f"step_audio_editx_{variant}"
        (ensemble / "1").mkdir(parents=True)
        step = f'ensemble_scheduling {{ step {{ model_name: "llm_{variant}_unary" model_version: -1 }} }}\n'
        (ensemble / "config.pbtxt").write_text(f'name: "{ensemble.name}"\nplatform: "ensemble"\n{step}')

    said = [problem.what for problem in preflight.check(settings, home)]
    assert [what.partition(":")[0] for what in said] == ["llm_base is not exported", "llm_bnb is not exported"]

    (settings.model_repository / "llm_bnb" / "1" / "model.safetensors").touch()
    assert preflight.check(settings, home) == []
    models = read_repository(settings.model_repository)
    left_out = {model.name for model in models if model.left_out}
    assert left_out == {"llm_base", "llm_base_unary", "step_audio_editx_base"}
