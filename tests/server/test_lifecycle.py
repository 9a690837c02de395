"""The launcher with the real tritonserver: up, repaired, down, with nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from server.process import processes
from server.shared_memory import FOLDER
from tests import servers
from tests.server import toy

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    toy.python_model(folder, "echo", toy.ECHO)
    toy.python_model(folder, "hold", toy.HOLD)
    toy.python_model(folder, "llm_toy", toy.HOLD)
    toy.python_model(folder, "compute", toy.COMPUTE)
    toy.ensemble(folder, "chain", "hold", "echo")
    return folder


@pytest.fixture
def launch(repository):
    started = []

    def start(*options, **arguments):
        started.append(servers.start("--model-repository", str(repository), "--no-gateway", *options, **arguments))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGINT)
            assert server.stop(signal.SIGTERM) < 3, "the second signal does not wait for anything"
            assert not server.shared_memory()


def wait_for(condition, within, what):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within, f"{what}: not within {within} s"
        time.sleep(0.1)
    return time.monotonic() - started


def serves(server, model):
    try:
        return toy.infer(server.http_url, model, [0.01], timeout=2)[0] == 200
    except OSError:
        return False


def call_aside(server, model):
    """Send a request that takes a minute; return once the model has it, with the thread and where its outcome goes."""
    outcome = []
    at_work = Path(server.process.args[server.process.args.index("--model-repository") + 1]) / toy.AT_WORK
    at_work.unlink(missing_ok=True)

    def call():
        try:
            outcome.append(toy.infer(server.http_url, model, [60.0], timeout=50))
        except OSError as error:
            outcome.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    wait_for(at_work.exists, 10, "the request")
    return caller, outcome


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_in_time_and_leaves_nothing(launch, how):
    server = launch()
    assert serves(server, "chain")
    assert server.shared_memory()
    pids = [process.pid for process in server.family()]
    assert len(pids) == 5, "tritonserver and four model processes"
    assert server.stop(how) < 15
    assert server.process.returncode == 0
    assert not server.shared_memory()
    assert not {process.pid for process in processes()} & set(pids)


def test_a_dead_stateless_model_is_replaced_without_a_restart(launch):
    server = launch()
    triton = server.family()[0].pid
    os.kill(server.stub("echo"), signal.SIGKILL)
    wait_for(lambda: any("echo is back" in line for line in server.log), 10, "the reload")
    assert toy.infer(server.http_url, "echo", [1.0, 2.0])[1]["outputs"][0]["data"] == [1.0, 2.0]
    assert serves(server, "chain"), "the ensemble over it is back as well"
    assert triton in {process.pid for process in server.family()}


def test_killing_an_engine_twice_fails_its_callers_at_once_and_service_returns(launch):
    server = launch()
    for _ in range(2):
        caller, outcome = call_aside(server, "llm_toy")
        os.kill(server.stub("llm_toy"), signal.SIGKILL)
        caller.join(5)
        assert not caller.is_alive(), "the caller hangs"
        assert isinstance(outcome[0], OSError)
        wait_for(lambda: serves(server, "llm_toy"), 15, "service")


@pytest.mark.parametrize(("called", "killed"), [("chain", "hold"), ("compute", "compute")])
def test_callers_of_a_stateless_model_that_dies_do_not_hang_either(launch, called, killed):
    server = launch()
    caller, outcome = call_aside(server, called)
    os.kill(server.stub(killed), signal.SIGKILL)
    caller.join(10)
    assert outcome, "the caller hangs"
    wait_for(lambda: serves(server, called), 15, "service")


def test_models_that_die_together_are_one_failure(launch):
    server = launch()
    for pid in [server.stub(model) for model in ("echo", "hold", "llm_toy")]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: any("serving again" in line for line in server.log), 15, "the restart")
    assert serves(server, "chain")
    assert sum("restarting" in line for line in server.log) == 1


def test_a_killed_tritonserver_comes_back(launch):
    server = launch()
    os.kill(server.family()[0].pid, signal.SIGKILL)
    wait_for(lambda: any("restarting tritonserver" in line for line in server.log), 10, "the restart")
    wait_for(lambda: serves(server, "echo"), 15, "service")
    assert server.stop() < 15
    assert not server.shared_memory()


def test_a_model_unloaded_on_purpose_stays_unloaded(launch):
    server = launch()
    assert toy.post(f"http://{server.http_url}/v2/repository/models/llm_toy/unload", {})[0] == 200
    time.sleep(2)  # several looks at every model
    assert not any("restarting" in line or "died" in line for line in server.log)
    assert toy.infer(server.http_url, "echo", [1.0])[0] == 200


def test_a_killed_launcher_takes_its_children_along_and_the_next_start_cleans_up(launch):
    server = launch()
    pids = {process.pid for process in server.family()}
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not pids & {process.pid for process in processes()}, 10, "the end of all children")
    prefix = server.shared_memory()[0].name.removesuffix("lock")
    (FOLDER / f"{prefix}region").write_bytes(bytes(2_000_000))
    following = launch()
    assert not server.shared_memory()
    assert any("removed 2 MB" in line for line in following.log)


def run(*options, within=60, cwd=None):
    ports = servers.free_ports(3)
    names = ("--triton-http-port", "--triton-grpc-port", "--triton-metrics-port")
    flags = [text for name, port in zip(names, ports, strict=True) for text in (name, str(port))]
    command = [sys.executable, "-m", "server", "--no-gateway", *flags, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=within, check=False, cwd=cwd)


def test_once_starts_and_stops_from_any_folder(repository, tmp_path):
    done = run("--model-repository", str(repository), "--once", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "ready after" in done.stdout
    assert "stopped" in done.stdout


def test_a_signal_during_start_up_ends_everything_at_once(tmp_path):
    toy.python_model(tmp_path, "slow", toy.SLOW_START)
    server = servers.start(
        "--model-repository", str(tmp_path), "--no-gateway", ready_line="starting tritonserver", within=30
    )
    wait_for(lambda: len(server.family()) == 2, 10, "the model process")
    pids = {process.pid for process in server.family()}
    assert server.stop(signal.SIGINT) < 5
    assert not pids & {process.pid for process in processes()}
    assert not server.shared_memory()


def test_a_model_that_fails_to_load_is_named_with_its_reason(tmp_path):
    toy.python_model(tmp_path, "broken", toy.BROKEN)
    done = run("--model-repository", str(tmp_path))
    assert done.returncode == 1
    assert "broken failed to load" in done.stdout
    assert "no luck today" in done.stdout


def test_every_problem_is_named_at_once_with_its_remedy(repository, tmp_path):
    toy.onnx_model(tmp_path, "net")
    (tmp_path / "net" / "1" / "model.onnx").unlink()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--model-repository", str(tmp_path), "--triton-http-port", str(port))
    assert done.returncode == 1
    assert f"port {port} for Triton's HTTP is taken" in done.stdout
    assert "choose another one with --triton-http-port" in done.stdout
    assert "net is not exported: model.onnx missing" in done.stdout
    assert "python -m export build" in done.stdout


def test_failing_again_and_again_ends_with_a_plain_message(tmp_path):
    toy.python_model(
        tmp_path,
        "fragile",
        toy.ECHO.replace("class", "import os\nclass")
        + "    def initialize(self, args):\n"
        + f"        if os.path.exists({str(tmp_path / 'fail')!r}):\n            raise ValueError('not again')\n",
    )
    server = servers.start("--model-repository", str(tmp_path), "--no-gateway", "--restarts", "2")
    (tmp_path / "fail").touch()
    os.kill(server.family()[0].pid, signal.SIGKILL)
    assert server.process.wait(60) == 1
    assert any("given up after 2 restarts" in line and "fragile" in line for line in server.log[-20:]), server.log[-20:]
    assert not server.shared_memory()
