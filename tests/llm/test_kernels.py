"""The GPU kernels against torch's operators: on a GPU where there is one, else in the Triton language's interpreter.

pip install triton   # 1 GB; torch for CUDA brings it along
"""

import os
import subprocess
import sys

import pytest
import torch

from python_backend.llm import alibi, ops, packing, weights
from python_backend.llm.attention import DecodeAttention, MaskedAttention
from python_backend.llm.config import Step1Config
from python_backend.llm.engine import Engine
from python_backend.llm.graphs import GraphDecoder
from python_backend.llm.kv_cache import SlotCache
from python_backend.llm.runner import Runner
from tests.llm.conftest import ROOT, Receiver
from tests.llm.test_graphs import StandInCapture

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
pytest.importorskip("triton", reason="the Triton language is not installed: pip install triton (1 GB)")

from python_backend.llm import kernels  # noqa: E402

# The interpreter multiplies matrices of bfloat16 as if they were integers.
HALF = (torch.bfloat16, 0.04) if DEVICE.type == "cuda" else (torch.float16, 0.005)
DTYPES = pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), HALF])


def close(found, expected, atol):
    torch.testing.assert_close(found.float().cpu(), expected.float().cpu(), atol=atol, rtol=1e-2)


def config(groups, per_group, dim):
    return Step1Config(groups * per_group * dim, 64, groups * per_group, groups, 2, 512, 100, 1e-5, 3)


@DTYPES
@pytest.mark.parametrize(("groups", "per_group", "dim"), [(4, 12, 64), (2, 1, 32), (1, 3, 16)])
@pytest.mark.parametrize("positions", [[0], [63], [64], [299, -1, 5, 130]])
def test_decode_attention_equals_masked_attention_and_stores_the_same(dtype, atol, groups, per_group, dim, positions):
    torch.manual_seed(len(positions))
    sizes = config(groups, per_group, dim)
    rows = len(positions)
    caches = [SlotCache(sizes, rows, 320, dtype, DEVICE) for _ in range(2)]
    for part in ("keys", "values"):
        values = torch.randn(getattr(caches[0], part).shape, device=DEVICE).to(dtype)
        for cache in caches:
            getattr(cache, part).copy_(values)
    before = caches[0].keys.clone()
    slope = alibi.slopes(groups * per_group).view(groups, per_group).to(DEVICE)
    # As the joined projection gives them: three views of one tensor.
    joined = torch.randn(rows, 1, groups * (per_group + 2) * dim, device=DEVICE).to(dtype)
    q, k, v = joined.split([groups * per_group * dim, groups * dim, groups * dim], -1)
    at = torch.tensor(positions, device=DEVICE)[:, None]
    expected = MaskedAttention(caches[0], slope, at, 0, rows, 320)(1, q, k, v)
    found = DecodeAttention(caches[1], slope, at)(1, q, k, v)
    for row, position in enumerate(positions):
        if position < 0:
            assert not found[row].any()
            assert torch.equal(caches[1].keys[:, row], before[:, row]), "a row without a request stored something"
        else:
            close(found[row], expected[row], atol)
            assert torch.equal(caches[1].keys[:, row, :, :320], caches[0].keys[:, row, :, :320])
            assert torch.equal(caches[1].values[:, row, :, :320], caches[0].values[:, row, :, :320])


@DTYPES
def test_decode_attention_does_not_depend_on_the_other_rows(dtype, atol):
    sizes = config(4, 12, 64)
    slope = alibi.slopes(48).view(4, 12).to(DEVICE)
    found = []
    for others in (-1, 250):
        torch.manual_seed(1)
        cache = SlotCache(sizes, 3, 320, dtype, DEVICE)
        cache.keys.normal_()
        cache.values.normal_()
        q, k, v = torch.randn(3, 1, 56 * 64, device=DEVICE).to(dtype).split([48 * 64, 256, 256], -1)
        at = torch.tensor([[others], [200], [others]], device=DEVICE)
        found.append(DecodeAttention(cache, slope, at)(0, q, k, v)[1])
    assert torch.equal(*found)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 96), (3, 1, 768), (1, 5, 100)])
def test_add_rms_norm(dtype, atol, shape):
    torch.manual_seed(0)
    x, update = (torch.randn(shape).to(dtype) for _ in range(2))
    weight = torch.rand(shape[-1]).to(dtype)
    for added in (None, update):
        expected = ops.add_rms_norm(x, added, weight, 1e-5)
        moved = None if added is None else added.to(DEVICE)
        found = kernels.add_rms_norm(x.to(DEVICE), moved, weight.to(DEVICE), 1e-5)
        for one, other in zip(found, expected, strict=True):
            close(one, other, atol)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 96), (3, 1, 1500), (1, 5, 64)])
def test_silu_mul_of_the_halves_of_one_tensor(dtype, atol, shape):
    torch.manual_seed(0)
    joined = torch.randn(*shape[:-1], 2 * shape[-1]).to(dtype)
    expected = ops.silu_mul(*joined.chunk(2, -1))
    close(kernels.silu_mul(*joined.to(DEVICE).chunk(2, -1)), expected, atol)


@pytest.mark.parametrize("deterministic", [False, True])
def test_decoding_as_on_a_gpu_gives_the_tokens_of_a_cpu(demo, demo_tokenizer, generation, monkeypatch, deterministic):
    monkeypatch.setattr(kernels, "_PROGRAMS", 8)  # the interpreter runs them one after another
    offset, stop = demo_tokenizer.audio_offset, demo_tokenizer.eot
    asked = [(3, {}), (40, {"temperature": 0}), (1, {"top_k": 9}), (9, {"top_p": 0.5})]
    wanted = [
        generation(seed=seed, prompt="word " * words, max_tokens=10, **rules)
        for seed, (words, rules) in enumerate(asked)
    ]
    found = []
    for fused in (False, True):
        device = DEVICE if fused else torch.device("cpu")
        model = packing.pack(weights.load(demo, device, torch.float32), fuse=fused)
        graphs = fused and DEVICE.type == "cuda"
        runner = Runner(model, 3, 128, offset, stop, deterministic, graphs)
        if fused and not graphs:
            runner._decoder = GraphDecoder(model, runner._head, runner.cache, deterministic, StandInCapture())
        engine = Engine(runner, prefill_chunk=64)
        receivers = [Receiver() for _ in wanted]
        for request, receiver in zip(wanted, receivers, strict=True):
            engine.submit(request, receiver)
        found.append([receiver.result() for receiver in receivers])
        engine.close()
    assert found[0] == found[1]


def test_they_compile_for_gpus_that_are_not_here():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.llm.compile_kernels", "80", "90"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    made = [line.split() for line in done.stdout.splitlines()]
    assert len(made) == 8
    assert all(int(size) > 0 for _, _, size, _ in made)
    assert all(int(shared) < 48 * 1024 for *_, shared in made), "more shared memory than every GPU grants"
