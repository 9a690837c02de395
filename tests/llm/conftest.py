import math
import os
import queue
import threading
from pathlib import Path

import pytest
import torch

from export.demo.llm import write_llm
from python_backend.llm import packing, weights
from python_backend.llm.engine import Engine
from python_backend.llm.prompt import Prompt
from python_backend.llm.request import Finished, Generation, Tokens, Urgency
from python_backend.llm.runner import Runner
from python_backend.llm.sampling import Sampling
from python_backend.llm.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "llm_small"
RELEASED = Path(os.environ.get("STEP_AUDIO_RELEASED", ROOT.parent / "shared" / "released"))
CPU = torch.device("cpu")

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden_model():
    return weights.load(GOLDEN, CPU, torch.float32)


@pytest.fixture(scope="session", params=["as loaded", "packed"])
def golden_forms(request, golden_model):
    """The golden model, also in the form in which it is served."""
    return golden_model if request.param == "as loaded" else packing.pack(weights.load(GOLDEN, CPU, torch.float32))


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo")
    write_llm(directory, "demo", 7)
    return directory


@pytest.fixture(scope="session")
def demo_model(demo):
    return weights.load(demo, CPU, torch.float32)


@pytest.fixture(scope="session")
def demo_tokenizer(demo):
    return Tokenizer(demo / "tokenizer.model")


@pytest.fixture(scope="session")
def released_tokenizer():
    path = RELEASED / "tokenizer.model"
    if not path.exists():
        pytest.skip(f"the released tokenizer.model is not at {RELEASED}; set STEP_AUDIO_RELEASED to its folder")
    return Tokenizer(path)


class Receiver:
    """Collects the events of one generation."""

    def __init__(self):
        self.events = queue.SimpleQueue()
        self.tokens = []
        self.groups = []
        self.started = threading.Event()

    def __call__(self, event):
        self.events.put(event)
        self.started.set()

    def end(self):
        """Wait for the last event and return it."""
        while isinstance(event := self.events.get(timeout=60), Tokens):
            self.groups.append(event.tokens)
            self.tokens += event.tokens
        return event

    def result(self):
        """Wait for the end and return all tokens."""
        event = self.end()
        assert isinstance(event, Finished), event
        return self.tokens


@pytest.fixture
def make_engine(demo_model, demo_tokenizer):
    engines = []

    def make(slots=4, context=1024, deterministic=False, **options):
        runner = Runner(demo_model, slots, context, demo_tokenizer.audio_offset, demo_tokenizer.eot, deterministic)
        engines.append(Engine(runner, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def generation(demo_tokenizer):
    def make(
        seed=0, prompt="say something", max_tokens=30, cancel_id="", prefix=0, priority=0, seconds=math.inf, **sampling
    ):
        return Generation(
            prompt=Prompt(tuple(demo_tokenizer.encode(prompt)), prefix),
            sampling=Sampling(seed=seed, **sampling),
            max_tokens=max_tokens,
            stop=demo_tokenizer.eot,
            audio_offset=demo_tokenizer.audio_offset,
            cancel_id=cancel_id,
            urgency=Urgency(priority, seconds),
        )

    return make
