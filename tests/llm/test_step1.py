import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.plain_step1 import PlainDecoder
from python_backend.llm import alibi, prefix_cache, weights
from python_backend.llm.attention import MaskedAttention
from python_backend.llm.config import Step1Config
from python_backend.llm.engine import Engine
from python_backend.llm.kv_cache import SlotCache
from python_backend.llm.prefix_cache import PrefixCache
from python_backend.llm.prompt import Prompt
from python_backend.llm.request import Generation
from python_backend.llm.runner import Runner
from python_backend.llm.sampling import Sampling
from python_backend.llm.step1 import parameter_shapes
from tests.llm.conftest import CPU, GOLDEN, Receiver


@pytest.fixture(scope="module")
def arrays():
    return np.load(GOLDEN / "golden.npz")


def logits(model, ids, chunk, cache, slot):
    parts = []
    with torch.inference_mode():
        for start in range(0, len(ids), chunk):
            part = torch.tensor(ids[start : start + chunk])[None]
            positions = torch.arange(start, start + part.shape[1])[None]
            attend = MaskedAttention(cache, model.slope, positions, slot, 1, start + part.shape[1])
            parts.append(model.lm_head(model(part, attend))[0])
    return torch.cat(parts).numpy()


@pytest.mark.parametrize("length", [1, 7, 64, 300])
@pytest.mark.parametrize("chunk", [300, 64, 5, 1])
def test_logits_equal_the_reference_in_one_pass_and_through_the_cache(golden_forms, arrays, length, chunk):
    cache = SlotCache(golden_forms.config, 3, 320, torch.float32, CPU)
    found = logits(golden_forms, arrays[f"ids_{length}"], chunk, cache, slot=1)
    expected = arrays[f"logits_{length}"]
    np.testing.assert_allclose(found[-len(expected) :], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("repetition_aware", [False, True])
@pytest.mark.parametrize("prefill_chunk", [7, 256])
def test_greedy_continuation_equals_the_reference_with_its_prefix_new_and_kept(
    golden_forms, arrays, repetition_aware, prefill_chunk, deterministic, monkeypatch
):
    monkeypatch.setattr(prefix_cache, "SHORTEST", 8)  # the golden prompt has 24 ids
    expected = arrays["greedy_repetition_aware" if repetition_aware else "greedy_plain"].tolist()
    ids = tuple(arrays["greedy_prompt"].tolist())
    runner = Runner(golden_forms, 2, 128, None, 3, deterministic)
    engine = Engine(runner, prefill_chunk=prefill_chunk, prefix_bytes=10**8)
    sampling = Sampling(temperature=0, repetition_aware=repetition_aware, grammar=False)
    for hits in (0, 1):
        receiver = Receiver()
        engine.submit(Generation(Prompt(ids, 16), sampling, len(expected), 3, None), receiver)
        assert receiver.result() == expected
        assert engine.stats()["prefix_hits"] == hits
    engine.close()


@pytest.mark.parametrize("length", [64, 300])
def test_logits_after_a_kept_prefix_equal_the_reference(golden_forms, arrays, length):
    runner = Runner(golden_forms, 3, 320, None, 3, deterministic=True)
    prefixes = PrefixCache(runner.cache, 10**8)
    ids = tuple(arrays[f"ids_{length}"].tolist())
    runner.prefill(0, ids[:40], 0)
    prefixes.store(ids[:40], 0)
    assert prefixes.load(ids[:40], 2)
    with torch.inference_mode():
        found = [golden_forms.lm_head(runner.prefill(slot, ids[40:], 40))[0] for slot in (0, 2)]
    assert torch.equal(*found)
    np.testing.assert_allclose(found[1], arrays[f"logits_{length}"][-1], atol=1e-3, rtol=0)


def test_rows_of_a_batch_do_not_see_one_another(golden_model, arrays):
    cache = SlotCache(golden_model.config, 3, 128, torch.float32, CPU)
    ids = [arrays["ids_64"], arrays["ids_7"]]
    alone = [logits(golden_model, row, 1, cache, slot=2)[-1] for row in ids]
    for slot, row in enumerate(ids):
        logits(golden_model, row[:-1], 64, cache, slot)
    last = torch.tensor([[row[-1]] for row in ids] + [[0]])
    positions = torch.tensor([[63], [6], [-1]])
    before = cache.keys[:, 2, :, :128].clone()
    with torch.inference_mode():
        attend = MaskedAttention(cache, golden_model.slope, positions, 0, 3, 64)
        together = golden_model.lm_head(golden_model(last, attend))[:, -1]
    for row in range(2):
        np.testing.assert_allclose(together[row], alone[row], atol=1e-4)
    assert torch.equal(cache.keys[:, 2, :, :128], before), "a row without a request wrote where requests read"


@pytest.mark.parametrize("heads", [1, 8, 12, 48])
def test_slopes_follow_the_rule_for_any_number_of_heads(heads):
    found = alibi.slopes(heads)
    assert found.shape == (heads,)
    assert len(set(found.tolist())) == heads
    if heads == 48:
        torch.testing.assert_close(
            found[[0, 1, 31, 32, 33, 47]],
            torch.tensor([0.8408964, 0.7071068, 0.0039063, 0.9170040, 0.7711054, 0.0681567]),
            atol=1e-6,
            rtol=1e-4,
        )


def test_released_configuration_gives_the_released_tensors():
    config = Step1Config(3072, 8192, 48, 4, 32, 32768, 74752, 1e-5, 3)
    shapes = parameter_shapes(config)
    assert len(shapes) == 291
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 3_529_706_496
    assert shapes["model.layers.31.self_attn.k_proj.weight"] == (256, 3072)
    assert shapes["lm_head.weight"] == shapes["model.embed_tokens.weight"] == (74752, 3072)


def test_weights_may_come_in_several_files(tmp_path, golden_model, arrays):
    shutil.copy(GOLDEN / "config.json", tmp_path)
    tensors = load_file(GOLDEN / "model.safetensors")
    names = sorted(tensors)
    save_file({name: tensors[name] for name in names[:10]}, tmp_path / "model-00001.safetensors")
    save_file({name: tensors[name] for name in names[10:]}, tmp_path / "model-00002.safetensors")
    model = weights.load(tmp_path, CPU, torch.float32)
    for name, value in golden_model.named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], value), name


def test_the_head_is_never_tied(tmp_path):
    content = json.loads((GOLDEN / "config.json").read_text()) | {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(content))
    shutil.copy(GOLDEN / "model.safetensors", tmp_path)
    model = weights.load(tmp_path, CPU, torch.float32)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 192}, "has shape"),
        ({"num_hidden_layers": 4}, "lacks 9 of 39 tensors"),
        ({"model_type": "llama"}, "not 'step1'"),
        ({"num_attention_groups": None}, "lacks num_attention_groups"),
        ({"num_attention_groups": 5}, "do not divide"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, change, message):
    content = json.loads((GOLDEN / "config.json").read_text()) | change
    content = {name: value for name, value in content.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(content))
    shutil.copy(GOLDEN / "model.safetensors", tmp_path)
    with pytest.raises(ValueError, match=message):
        weights.load(tmp_path, CPU, torch.float32)


def test_a_broken_or_missing_file_is_refused(tmp_path):
    shutil.copy(GOLDEN / "config.json", tmp_path)
    with pytest.raises(ValueError, match="holds no"):
        weights.load(tmp_path, CPU, torch.float32)
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        weights.load(tmp_path, CPU, torch.float32)


def test_bfloat16_stays_close_to_float32(arrays):
    model = weights.load(GOLDEN, CPU, torch.bfloat16)
    cache = SlotCache(model.config, 1, 320, torch.bfloat16, CPU)
    ids = torch.tensor(arrays["ids_64"])[None]
    with torch.inference_mode():
        attend = MaskedAttention(cache, model.slope, torch.arange(64)[None], 0, 1, 64)
        found = model.lm_head(model(ids, attend))[0].float().numpy()
    expected = arrays["logits_64"]
    assert (
        np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.06
    )  # eight bits of mantissa through three layers


def test_the_plain_decoder_of_the_benchmark_computes_the_same(golden_model, arrays):
    plain = PlainDecoder(golden_model)
    ids = arrays["ids_64"].tolist()
    with torch.inference_mode():
        found = [plain.logits(ids[:60]), *(plain.logits([token]) for token in ids[60:])]
    np.testing.assert_allclose(torch.stack(found).numpy(), arrays["logits_64"][59:], atol=1e-3, rtol=0)
