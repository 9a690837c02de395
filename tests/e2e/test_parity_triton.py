"""The golden checkpoints, exported and served by a real Triton, give what the original implementation gave."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from rich.console import Console

from export.build import build
from python_backend.voice.clip import normalise, trim
from python_backend.voice.resample import resample
from tests.e2e.triton_inputs import tensors
from tests.repositories import bare_copy
from tests.servers import ROOT, start

pytestmark = pytest.mark.server
GOLDEN = ROOT / "tests" / "golden"
TOLERANCES = json.loads((GOLDEN / "vocoder_small" / "tolerances.json").read_text())
CLIPS = sorted(path for path in (GOLDEN / "tokenizer_small" / "golden").glob("*.npz") if path.stem != "edge_lengths")
SERVED = ("linguistic_tokenizer", "semantic_tokenizer", "flow", "vocoder")


@pytest.fixture(scope="module")
def golden_server(tmp_path_factory):
    repository = bare_copy(tmp_path_factory.mktemp("golden") / "model_repository", SERVED)
    for checkpoint in ("tokenizer_small", "vocoder_small"):
        build(GOLDEN / checkpoint, repository, [], False, Console(quiet=True))
    server = start("--model-repository", str(repository), "--no-gateway")
    yield server
    server.stop()


def pad(waveform):
    padded = np.zeros(max(16_000, -(-len(waveform) // 16_000) * 16_000), np.float32)
    padded[: len(waveform)] = waveform
    return padded


def codes(client, model, waveform):
    fields = {"audio": pad(waveform)[None], "audio_length": np.array([[len(waveform)]], np.int32)}
    if model == "linguistic_tokenizer":
        fields["dither"] = np.zeros((1, 1), np.float32)
    answer = client.infer(model, tensors(grpcclient, fields))
    return answer.as_numpy("codes")[0, : answer.as_numpy("codes_length")[0, 0]]


def semantic_codes(client, waveform):
    pieces = [waveform[start : start + 480_000] for start in range(0, len(waveform), 480_000)]
    return np.concatenate([codes(client, "semantic_tokenizer", piece) for piece in pieces if len(piece) >= 480])


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_both_tokenizers_give_the_golden_codes(golden_server, path):
    golden = np.load(path)
    samples = golden["input"]
    waveform = samples.astype(np.float32) / 32768 if samples.dtype == np.int16 else samples
    waveform = trim(normalise(resample(waveform, int(golden["input_rate"]), 16_000)))
    assert len(waveform) == golden["pre_len"]
    client = golden_server.triton()
    np.testing.assert_array_equal(codes(client, "linguistic_tokenizer", waveform), golden["vq02"])
    np.testing.assert_array_equal(semantic_codes(client, waveform), golden["vq06"])


@pytest.mark.parametrize(
    ("model", "name", "shortest"), [("linguistic_tokenizer", "vq02", 0), ("semantic_tokenizer", "vq06", 480)]
)
def test_every_edge_length_gives_the_golden_codes_in_mixed_batches(golden_server, model, name, shortest):
    golden = np.load(GOLDEN / "tokenizer_small" / "golden" / "edge_lengths.npz")
    offsets = golden[f"{name}_offsets"]
    lengths = golden["lengths"]
    assert np.diff(offsets)[lengths < shortest].sum() == 0, "the caller drops what is too short"
    indices = np.flatnonzero(lengths >= max(shortest, 1))
    client = golden_server.triton()

    def same(index):
        found = codes(client, model, golden["signal"][: lengths[index]])
        return np.array_equal(found, golden[name][offsets[index] : offsets[index + 1]])

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(same, indices))
    assert all(results), f"{results.count(False)} of {len(results)} lengths differ"


def test_sixteen_clips_at_once_take_at_most_four_executions(golden_server):
    client = golden_server.triton()
    path = GOLDEN / "tokenizer_small" / "golden" / "espeak_12s.npz"
    signal = np.load(path)["input"].astype(np.float32) / 32768
    for model in ("linguistic_tokenizer", "semantic_tokenizer"):
        clips = [signal[: 64_001 + 900 * index] for index in range(16)]
        alone = [codes(client, model, waveform) for waveform in clips]
        before = executions(client, model)
        with ThreadPoolExecutor(16) as pool:
            clients = [golden_server.triton() for _ in clips]
            for opened in clients:
                assert opened.is_server_ready()
            together = list(
                pool.map(lambda pair, model=model: codes(pair[0], model, pair[1]), zip(clients, clips, strict=True))
            )
        assert executions(client, model) - before <= 4
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, other)


def executions(client, model):
    return client.get_inference_statistics(model).model_stats[0].execution_count


def close(found, golden, file, name):
    limits = TOLERANCES[file][name]
    assert found.shape == golden.shape
    assert np.abs(found - golden).max() <= limits["atol"], name


def test_flow_gives_the_golden_mel(golden_server):
    golden = np.load(GOLDEN / "vocoder_small" / "golden_token2wav.npz")
    noise = np.load(GOLDEN / "vocoder_small" / "golden_flow.npz")["rand_noise"][0]
    prompt, tokens = (golden[f"t1_{name}"][0].astype(np.int32) for name in ("prompt_token", "token"))
    frames = 6 * (len(prompt) + len(tokens)) // 5
    fields = {
        "tokens": tokens,
        "prompt_tokens": prompt,
        "prompt_mel": rounded(golden["t1_prompt_feat"][0].T),
        "speaker_embedding": golden["t1_embedding"][0],
        "initial_noise": np.ascontiguousarray(noise[:, :frames]),
    }
    mel = golden_server.triton().infer("flow", tensors(grpcclient, fields)).as_numpy("mel")
    close(mel, golden["t1bf16_mel"][0], "golden_token2wav", "t1bf16_mel")


def rounded(array):
    """Round to bfloat16, half to even, and back."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("case", ["hd", "hz", "hx"])
def test_vocoder_gives_the_golden_sound(golden_server, case):
    golden = np.load(GOLDEN / "vocoder_small" / "golden_hift.npz")
    mel = golden[f"{case}_mel"]
    frames = mel.shape[2]
    source = golden[f"{case}_source"][0]
    given = case == "hd"
    fields = {
        "mel": mel,
        "mel_length": np.array([[frames]], np.int32),
        "noise": np.zeros((1, 480 * frames), np.float32),
        "cached_source": source if given else np.zeros((1, 1), np.float32),
        "cached_source_length": np.array([[source.shape[1] if given else 0]], np.int32),
    }
    answer = golden_server.triton().infer("vocoder", tensors(grpcclient, fields))
    waveform, golden_waveform = answer.as_numpy("waveform"), golden[f"{case}_wav"]
    if given:
        close(waveform, golden_waveform, "golden_hift", "hd_wav")
        return
    close(answer.as_numpy("f0"), golden[f"{case}_f0"], "golden_hift", f"{case}_f0")
    close(answer.as_numpy("source"), source, "golden_hift", f"{case}_source")
    close(waveform, golden_waveform, "golden_hift", f"{case}_wav")
