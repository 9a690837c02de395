"""The recogniser's graph against FunASR: `tests/golden/sense_voice` holds what the public package computes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.checkpoint import Checkpoint, CheckpointError
from export.sense_voice import QUERIES, SenseVoice, export
from tests.tokenizer_golden import padded, session

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "sense_voice"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.open(GOLDEN)


@pytest.fixture(scope="module")
def graph(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sense_voice")
    export(checkpoint, folder)
    return session(folder / "model.onnx")


def clip(golden, case):
    return golden[f"audio_{case}"].astype(np.float32) / 32_768


def run(graph, clips, languages, text_norms, outputs=("tokens", "log_probs", "tokens_length", "logits"), dither=0.0):
    audio, length = padded(clips)
    column = (len(clips), 1)
    inputs = {
        "audio": audio,
        "audio_length": length,
        "language": np.reshape(languages, column).astype(np.int32),
        "text_norm": np.reshape(text_norms, column).astype(np.int32),
        "dither": np.full(column, dither, np.float32),
    }
    return graph.run(list(outputs), inputs)


def test_the_checkpoint_is_found_beside_the_linguistic_tokenizer(checkpoint):
    assert checkpoint.recognizer_dir == GOLDEN / "SenseVoiceSmall"
    assert checkpoint.linguistic_dir is None


def test_features_are_those_of_funasr(golden, checkpoint):
    features = SenseVoice.load(checkpoint).features
    compared = [case for case in range(len(golden["cases"])) if f"features_{case}" in golden]
    assert len(compared) >= 4
    for case in compared:
        audio = torch.from_numpy(clip(golden, case))[None]
        found, count = features(audio, torch.tensor([[audio.shape[1]]]), torch.zeros(1, 1))
        wanted = golden[f"features_{case}"]
        assert count.item() == len(wanted)
        np.testing.assert_allclose(found[0, : len(wanted)].numpy(), wanted, atol=2e-4)


def test_logits_are_those_of_funasr(golden, graph):
    for case, (_, language, text_norm) in enumerate(golden["cases"]):
        tokens, log_probs, length, logits = run(graph, [clip(golden, case)], language, text_norm)
        wanted = golden[f"logits_{case}"]
        assert length.tolist() == [[len(wanted)]]
        found = logits[0, : len(wanted)]
        assert np.abs(found - wanted).max() < 1e-4
        np.testing.assert_array_equal(tokens[0, : len(wanted)], wanted.argmax(axis=1))
        exact = wanted.max(axis=1) - np.logaddexp.reduce(wanted.astype(np.float64), axis=1)
        np.testing.assert_allclose(log_probs[0, : len(wanted)], exact, atol=1e-4)


def test_a_padded_batch_gives_what_each_clip_gives_alone(golden, graph):
    cases = golden["cases"]
    clips = [clip(golden, case) for case in range(len(cases))]
    tokens, _, length, logits = run(graph, clips, cases[:, 1], cases[:, 2])
    for case in range(len(cases)):
        wanted = golden[f"logits_{case}"]
        assert length[case, 0] == len(wanted)
        assert np.abs(logits[case, : len(wanted)] - wanted).max() < 1e-4
        np.testing.assert_array_equal(tokens[case, : len(wanted)], wanted.argmax(axis=1))


def test_what_lies_past_a_clip_does_not_matter(golden, graph):
    audio = clip(golden, 3)
    alone = run(graph, [audio], 0, 14, dither=1.0)[3]
    longer = run(graph, [audio, np.ones(64_000, np.float32)], [0, 0], [14, 14], dither=1.0)[3]
    np.testing.assert_allclose(longer[0, : alone.shape[1] - 4], alone[0, :-4], atol=1e-4)


def test_the_queries_matter(golden, graph):
    audio = clip(golden, 4)
    logits = [run(graph, [audio], language, text_norm)[3] for language, text_norm in ((0, 14), (3, 14), (0, 15))]
    assert np.abs(logits[0] - logits[1]).max() > 0.1
    assert np.abs(logits[0] - logits[2]).max() > 0.1


def test_the_shortest_clips_have_a_frame(graph):
    for samples in (1, 399, 400):
        length = run(graph, [np.full(samples, 0.1, np.float32)], 0, 14)[2]
        assert length.tolist() == [[QUERIES + 1]]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.yaml", lambda text: text.replace("SenseVoiceSmall", "Paraformer"), "model is 'Paraformer'"),
        ("config.yaml", lambda text: text.replace("n_mels: 80", "n_mels: 40"), "do not fit am.mvn"),
        ("config.yaml", lambda text: text.replace("tp_blocks: 2", "tp_blocks: 3"), "tp_encoders.2"),
        ("config.yaml", lambda text: text.replace("sanm_shfit: 0", "sanm_shfit: 5"), "sanm_shfit is 5"),
    ],
)
def test_another_architecture_is_refused(tmp_path, file, change, message):
    folder = tmp_path / "SenseVoiceSmall"
    folder.mkdir()
    for path in (GOLDEN / "SenseVoiceSmall").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / file).write_text(change((folder / file).read_text()))
    with pytest.raises(CheckpointError, match=message):
        SenseVoice.load(Checkpoint.open(tmp_path))


def test_weights_without_the_ctc_layer_are_refused(tmp_path):
    folder = tmp_path / "SenseVoiceSmall"
    folder.mkdir()
    for path in (GOLDEN / "SenseVoiceSmall").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = torch.load(folder / "model.pt", weights_only=True)
    torch.save({name: value for name, value in weights.items() if "ctc" not in name}, folder / "model.pt")
    with pytest.raises(CheckpointError, match=r"ctc_lo.weight"):
        SenseVoice.load(Checkpoint.open(tmp_path))
