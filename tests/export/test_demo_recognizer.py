"""The random recogniser: FunASR's layout, the same for the same seed, and text wherever somebody speaks."""

import json

import numpy as np
import pytest
import torch

from export.checkpoint import Checkpoint
from export.demo.recognizer import TAGS, write_recognizer
from export.sense_voice import QUERIES, SenseVoice
from export.speech_recognizer import export
from python_backend.asr.queries import LANGUAGES, TEXT_NORMS
from python_backend.asr.words import TokenDecoder
from python_backend.voice.resample import resample
from tests.e2e.triton_inputs import clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "SenseVoiceSmall"
    write_recognizer(folder, "demo", seed=7)
    return folder


@pytest.fixture(scope="module")
def network(folder):
    return SenseVoice.load(Checkpoint.open(folder))


@pytest.fixture(scope="module")
def decoder(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("exported")
    export(Checkpoint.open(folder), target)
    assert "random" in json.loads((target / "description.json").read_text())["note"]
    return TokenDecoder(target / "tokens.model")


def tokens(network, language=0, text_norm=14, audio=None):
    audio = resample(*clip(), 16_000) if audio is None else audio
    column = [torch.tensor([[value]]) for value in (len(audio), language, text_norm, 1.0)]
    with torch.inference_mode():
        return network(torch.from_numpy(audio)[None], *column)[0][0].numpy()


def test_speech_gives_varied_words(network, decoder):
    found = tokens(network)
    words = decoder.words(found[QUERIES:], np.zeros(len(found) - QUERIES, np.float32))
    assert len({word.text for word in words}) > 10


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_language_asked_for_is_the_one_told(network, decoder, language):
    assert decoder.tags(tokens(network, LANGUAGES[language])[:QUERIES]).language == language


@pytest.mark.parametrize("form", TEXT_NORMS)
def test_the_form_asked_for_is_the_one_told(network, folder, form):
    last = tokens(network, text_norm=TEXT_NORMS[form])[QUERIES - 1]
    pieces = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    assert pieces[last] == f"<|{form}|>"


def test_the_same_seed_gives_the_same_weights(folder, tmp_path):
    write_recognizer(tmp_path, "demo", seed=7)
    for name in sorted(path.name for path in folder.iterdir()):
        if name == "model.pt":
            first, second = (torch.load(place / name, weights_only=True) for place in (folder, tmp_path))
            assert all(torch.equal(first[key], second[key]) for key in first)
        else:
            assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_the_weights_have_funasrs_names(folder):
    names = set(torch.load(folder / "model.pt", weights_only=True))
    assert {"embed.weight", "ctc.ctc_lo.weight", "ctc.ctc_lo.bias", "encoder.tp_norm.weight"} <= names
    assert "encoder.encoders0.0.self_attn.linear_q_k_v.weight" in names
    assert len(TAGS) == len(set(TAGS))
