"""The way back to Triton's callers and the metrics, with a stand-in for Triton's module of the Python backend."""

import importlib
import sys
import time
import types

import pytest

from tests.llm.conftest import Receiver

MODULES = ("python_backend.serving", "python_backend.llm.responder", "python_backend.llm.reporter")


class Metric:
    def __init__(self):
        self.updates = []
        self.set = self.increment = self.observe = self.updates.append


class Family:
    COUNTER = GAUGE = HISTOGRAM = 0
    made = types.SimpleNamespace(metrics={})

    def __init__(self, **options):
        self.name = options["name"].removeprefix("step_audio_llm_")

    def Metric(self, labels, **_):  # noqa: N802 - Triton's name
        return self.made.metrics.setdefault(self.name + labels.get("end", ""), Metric())


@pytest.fixture
def triton(monkeypatch):
    """The modules that talk to Triton, imported over a stand-in and forgotten again."""
    stand_in = types.SimpleNamespace(
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
        Tensor=lambda name, value: (name, value),
        InferenceResponse=lambda tensors=(), error=None: (list(tensors), error),
        MetricFamily=Family,
    )
    Family.made.metrics.clear()
    before = {name: sys.modules.pop(name, None) for name in MODULES}
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    yield [importlib.import_module(name) for name in MODULES[1:]]
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


class Sender:
    def __init__(self):
        self.cancelled = False

    def is_cancelled(self):
        return self.cancelled


class Request:
    def __init__(self):
        self.sender = Sender()

    def parameters(self):
        return ""

    def get_response_sender(self):
        return self.sender

    def requested_output_names(self):
        return ["tokens"]


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_caller_who_goes_is_noticed(triton):
    responder = triton[0].Responder()
    request, gone = Request(), []
    responder.open(request).watch(lambda: gone.append(True))
    time.sleep(0.15)
    assert not gone
    request.sender.cancelled = True
    assert wait_for(lambda: gone)
    responder.close()
    assert gone == [True]


def test_a_caller_who_goes_before_the_request_is_queued_is_not_forgotten(triton):
    responder = triton[0].Responder()
    request, gone = Request(), []
    request.sender.cancelled = True
    channel = responder.open(request)
    assert wait_for(lambda: not responder._live)  # polled, and never again
    channel.watch(lambda: gone.append(True))
    responder.close()
    assert gone == [True]


def test_metrics_are_sent_when_they_change_and_only_then(triton, make_engine, generation):
    engine = make_engine()
    reporter = triton[1].EngineReporter(engine, "llm")
    reporter.close()
    receiver = Receiver()
    engine.submit(generation(max_tokens=20), receiver)
    receiver.result()
    assert wait_for(lambda: not engine.stats()["running"])
    for _ in range(2):
        reporter.report()
    found = {name: metric.updates for name, metric in Family.made.metrics.items() if metric.updates}
    assert found.pop("first_token_seconds")[0] > found.pop("token_seconds")[0] > 0
    assert found == {"kv_bytes": [engine.stats()["kv_bytes"]], "tokens_total": [20], "requests_totallength": [1]}
    engine.submit(generation(max_tokens=10), Receiver())
    assert wait_for(lambda: engine.stats()["tokens"] == 30)
    assert wait_for(lambda: not engine.stats()["running"])
    reporter.report()
    assert Family.made.metrics["tokens_total"].updates == [20, 10]
    assert len(Family.made.metrics["kv_bytes"].updates) == 1
