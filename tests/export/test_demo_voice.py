"""The random tokenizers and the random speaker encoder: reproducible, in the released layout, codes that vary."""

import hashlib

import numpy as np
import pytest
import torch

from export import linguistic_tokenizer, semantic_tokenizer, speaker_encoder
from export.checkpoint import Checkpoint
from export.demo.campplus import EMBEDDING
from export.demo.signals import speech_like
from export.demo.speaker import write_speaker
from export.demo.tokenizer import PARAFORMER, SIZES, write_tokenizer
from export.sanm_encoder import SanmEncoder
from tests.tokenizer_golden import prepared, session

torch.set_num_threads(1)
SEED = 7


def write(folder, seed=SEED):
    write_tokenizer(folder / "tokenizer", "demo", seed)
    write_speaker(folder / "speaker", "demo", seed)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("demo"))


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_writes_the_same_files(folder, tmp_path):
    assert digests(write(tmp_path / "again")) == digests(folder)
    other = digests(write(tmp_path / "other", SEED + 1))
    changed = {name for name, digest in digests(folder).items() if other[name] != digest}
    assert {name.rsplit("/", 1)[-1] for name in changed} >= {
        "model.pt",
        "am.mvn",
        "linguistic_tokenizer.npy",
        "speech_tokenizer_v1.onnx",
        "campplus.onnx",
    }


def test_files_carry_the_released_names(folder):
    names = {"am.mvn", "config.yaml", "configuration.json", "model.pt", "seg_dict", "tokens.json", "tokens.txt"}
    assert {path.name for path in (folder / "tokenizer" / PARAFORMER).iterdir()} == names
    checkpoint = Checkpoint.open(folder)
    for part in ("linguistic_dir", "centroids", "semantic_onnx", "campplus_onnx"):
        assert checkpoint.require(part)
    assert np.load(checkpoint.centroids).shape == (1024, SIZES["demo"].width)


def test_encoder_weights_carry_the_released_names_and_shapes(folder):
    weights = torch.load(folder / "tokenizer" / PARAFORMER / "model.pt", weights_only=True)
    sizes = SIZES["demo"]
    assert len(weights) == 13 * sizes.blocks + 2
    assert weights["encoder.encoders0.0.self_attn.linear_q_k_v.weight"].shape == (3 * sizes.width, 560)
    assert weights["encoder.encoders.0.self_attn.fsmn_block.weight"].shape == (sizes.width, 1, sizes.kernel)
    assert weights["encoder.encoders.0.feed_forward.w_1.weight"].shape == (sizes.units, sizes.width)
    assert weights["encoder.after_norm.bias"].shape == (sizes.width,)


def bits(codes):
    _, counts = np.unique(codes, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def test_codes_and_embeddings_vary_on_speech(folder, tmp_path):
    checkpoint = Checkpoint.open(folder)
    outputs = {}
    for module in (linguistic_tokenizer, semantic_tokenizer, speaker_encoder):
        module.export(checkpoint, tmp_path)
        opened = session(tmp_path / "model.onnx")
        wanted = [value.name for value in opened.get_outputs()][:1]
        for clip in ("espeak_12s", "ex_vad"):
            waveform = prepared(clip)
            inputs = {"audio": waveform[None], "audio_length": np.array([[len(waveform)]], np.int32)}
            if module is linguistic_tokenizer:
                inputs["dither"] = np.ones((1, 1), np.float32)
            outputs[module, clip] = opened.run(wanted, inputs)[0][0]
    assert bits(outputs[linguistic_tokenizer, "espeak_12s"]) > 4
    assert bits(outputs[semantic_tokenizer, "espeak_12s"]) > 5
    one, other = (outputs[speaker_encoder, clip] for clip in ("espeak_12s", "ex_vad"))
    assert one.shape == (EMBEDDING,)
    assert np.linalg.norm(one - other) > 0.05 * np.linalg.norm(one)


def test_released_sizes_have_the_released_number_of_weights():
    sizes = SIZES["released"]
    with torch.device("meta"):
        encoder = SanmEncoder(560, sizes.width, sizes.heads, sizes.units, sizes.blocks, sizes.kernel, longest=4)
    assert len(encoder.state_dict()) == 652
    assert sum(weight.numel() for weight in encoder.parameters()) == 157_975_648


def test_speech_like_sound_is_sound():
    sound = speech_like(0, 2.0)
    assert sound.shape == (32_000,)
    assert sound.dtype == np.float32
    assert 0.05 < np.abs(sound).max() <= 1.0
    np.testing.assert_array_equal(sound, speech_like(0, 2.0))
    assert not np.array_equal(sound, speech_like(1, 2.0))
