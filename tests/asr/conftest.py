"""A recogniser over the small golden checkpoint, its network called in this process."""

import threading
from pathlib import Path

import numpy as np
import pytest

from export.checkpoint import Checkpoint
from export.demo.recognizer import write_tokens
from export.sense_voice import export as export_network
from export.speech_recognizer import export as export_recognizer
from python_backend.asr.words import TokenDecoder
from tests.tokenizer_golden import session

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "sense_voice"


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A folder with what both models read."""
    folder = tmp_path_factory.mktemp("recognizer")
    checkpoint = Checkpoint.open(GOLDEN)
    export_network(checkpoint, folder)
    export_recognizer(checkpoint, folder)
    return folder


@pytest.fixture(scope="session")
def network(exported):
    """What `call` of a recogniser is: one run of the network, counted."""
    graph = session(exported / "model.onnx")
    lock = threading.Lock()

    def call(model, inputs, outputs):
        assert model == "sense_voice"
        with lock:
            call.asked.append(inputs["audio_length"].item())
        return dict(zip(outputs, graph.run(outputs, dict(inputs)), strict=True))

    call.asked = []
    return call


class Vocabulary:
    """The demo's tokens, and token streams written as text."""

    def __init__(self, folder):
        self.folder = folder
        self.pieces = write_tokens(folder / "tokens.model")
        self.decoder = TokenDecoder(folder / "tokens.model")

    def tokens(self, *pieces):
        """Return one frame per piece; `_` is the blank."""
        return np.array([0 if piece == "_" else self.pieces.index(piece) for piece in pieces], np.int32)

    def words(self, *pieces):
        tokens = self.tokens(*pieces)
        return self.decoder.words(tokens, np.full(len(tokens), -0.5, np.float32))


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory):
    return Vocabulary(tmp_path_factory.mktemp("tokens"))
