"""4-bit checkpoints, written by the libraries that define the forms, against what those libraries make of them."""

import json
import math
import re
import shutil

import pytest
import torch
import torch.nn.functional as F
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file, save_file

from export.quantise import linear_layers, quantise
from python_backend.llm import nf4, weights
from python_backend.llm.attention import MaskedAttention
from python_backend.llm.config import Step1Config
from python_backend.llm.kv_cache import SlotCache
from python_backend.llm.nf4 import NF4Linear, NF4Weight
from python_backend.llm.step1 import parameter_shapes
from python_backend.llm.w4a16 import W4A16, W4A16Linear
from tests.llm.conftest import CPU, GOLDEN, ROOT

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
FORMS = {"bnb": {}, "awq symmetric": {}, "awq asymmetric": {"symmetric": False}}
HALF_A_STEP = 0.5 * (1 - 0.6961928009986877)
"""Half the widest gap between two NF4 codes."""


def matrix(shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(5)).to(dtype)


def packed_nf4(weight, double=True):
    packed, state = quantize_4bit(weight, blocksize=64, compress_statistics=double, quant_type="nf4")
    parts = {f".{name}": tensor for name, tensor in state.as_dict(packed=True).items()}
    return {f"x.weight{part}": tensor for part, tensor in {"": packed, **parts}.items()}, dequantize_4bit(packed, state)


def packed_w4a16(weight, symmetric, group):
    """Return the tensors, the matrix they stand for, the scales by value, and the form."""
    strategy = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    form = QuantizationArgs(num_bits=4, type="int", symmetric=symmetric, **strategy)
    scheme = QuantizationScheme(targets=["Linear"], weights=form, format="pack-quantized")
    groups = weight.view(len(weight), -1, group or weight.shape[1])
    scale, zero_point = calculate_qparams(groups.amin(-1), groups.amax(-1), form)
    parts = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero_point}
    stored = PackedQuantizationCompressor.compress(parts, scheme)
    dense = PackedQuantizationCompressor.decompress(stored, scheme)["weight"]
    tensors = {f"x.{name}": tensor.contiguous() for name, tensor in stored.items()}
    return tensors, dense, scale.repeat_interleave(weight.shape[1] // scale.shape[1], 1), W4A16(group, symmetric)


@pytest.mark.parametrize("dtype", DTYPES)
# Not 96 inputs: bitsandbytes 0.50 expands such rows wrongly on a CPU, beginning a block of 64 at each.
@pytest.mark.parametrize("shape", [(96, 64), (16, 256), (130, 100)])
@pytest.mark.parametrize("double", [True, False])
def test_nf4_is_what_bitsandbytes_makes_of_it(dtype, shape, double):
    weight = matrix(shape, dtype)
    tensors, expected = packed_nf4(weight, double)
    found = NF4Weight.read(tensors, "x")
    assert found.shape == shape
    assert found.dense().dtype is dtype
    assert torch.equal(found.dense(), expected)
    blocks = F.pad(weight.flatten().float(), (0, -weight.numel() % 64)).view(-1, 64)
    largest = blocks.abs().amax(1).repeat_interleave(64)[: weight.numel()].view(shape)
    slack = 0.02 if double else 0.005  # of the scale's own 8 bits, and of the dtype
    assert ((found.dense() - weight).float().abs() <= (HALF_A_STEP + slack) * largest).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "group"), [((40, 256), 128), ((12, 96), 32), ((9, 50), None)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_w4a16_is_what_compressed_tensors_makes_of_it(dtype, shape, group, symmetric):
    weight = matrix(shape, dtype)
    tensors, expected, scale, form = packed_w4a16(weight, symmetric, group)
    found = form.read(tensors, "x")
    assert found.shape == shape
    assert found.dense().dtype is dtype
    assert torch.equal(found.dense(), expected)
    # The symmetric form reaches from -8 to 7 steps for values up to 7.5; the zero point of the other is rounded.
    assert ((found.dense() - weight).float().abs() <= 1.1 * scale.float()).all()
    assert (found.dense() - weight).float().abs().mean() < 0.3 * scale.float().mean()


def test_a_layer_that_is_not_packed_is_none():
    assert NF4Weight.read({"x.weight": matrix((4, 4))}, "x") is None
    assert W4A16(32, True).read({"x.weight": matrix((4, 4))}, "x") is None


@pytest.fixture(scope="module", params=FORMS)
def checkpoint(request, demo, tmp_path_factory):
    """The demo checkpoint in one of the forms."""
    directory = tmp_path_factory.mktemp("quantised")
    quantise(demo, directory, request.param[:3], **FORMS[request.param])
    return directory


@pytest.fixture
def broken(checkpoint, tmp_path):
    """A copy to break."""
    return shutil.copytree(checkpoint, tmp_path / "broken")


def by_the_library(directory, layer):
    """Return the matrix of `layer` as the library reads it from the file."""
    tensors = load_file(directory / "model.safetensors")
    if f"{layer}.weight_packed" in tensors:
        group = json.loads((directory / "config.json").read_text())["quantization_config"]["config_groups"]["group_0"]
        names = ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point")
        parts = {name: tensors[f"{layer}.{name}"] for name in names if f"{layer}.{name}" in tensors}
        return PackedQuantizationCompressor.decompress(parts, QuantizationScheme(**group))["weight"]
    prefix = f"{layer}.weight."
    parts = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return dequantize_4bit(tensors[f"{layer}.weight"], QuantState.from_dict(parts, device=CPU))


def logits(model, ids):
    attend = MaskedAttention(
        SlotCache(model.config, 1, 64, model.dtype, CPU), model.slope, torch.arange(64)[None], 0, 1, 64
    )
    with torch.inference_mode():
        return model.lm_head(model(ids[None], attend))[0]


def test_a_checkpoint_has_the_matrices_of_the_library(checkpoint, demo_model):
    model = weights.load(checkpoint, CPU, torch.float32)
    found, original = dict(model.named_parameters()), dict(demo_model.named_parameters())
    packed = {f"{layer}.weight" for layer in linear_layers(model.config) if layer != "lm_head"}
    assert len(packed) == 7 * model.config.num_hidden_layers
    for name in found:
        if name in packed:
            assert torch.equal(found[name], by_the_library(checkpoint, name.removesuffix(".weight"))), name
            assert not torch.equal(found[name], original[name])
        else:
            assert torch.equal(found[name], original[name]), name


def test_logits_are_as_far_off_as_so_much_noise_in_the_weights_puts_them(checkpoint, demo, demo_model):
    model, noisy = weights.load(checkpoint, CPU, torch.float32), weights.load(demo, CPU, torch.float32)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(model.config.vocab_size, (64,), generator=generator)
    expected = logits(demo_model, ids)
    quantised, original = dict(model.named_parameters()), dict(demo_model.named_parameters())
    for name, value in noisy.named_parameters():
        error = (quantised[name] - original[name]).square().mean().sqrt()
        value += error * torch.randn(value.shape, generator=generator)
    off, by_noise = ((logits(each, ids) - expected).norm() / expected.norm() for each in (model, noisy))
    assert 0.8 * by_noise < off < 1.2 * by_noise, (off, by_noise)


@pytest.mark.parametrize("plain", [(), ("lm_head", "model.layers.1.mlp.down_proj")])
@pytest.mark.parametrize("variant", ["bnb", "awq"])
def test_layers_left_plain_are_read_plainly_and_a_packed_head_is_expanded(tmp_path, golden_model, variant, plain):
    quantise(GOLDEN, tmp_path, variant, plain=plain)
    found = dict(weights.load(tmp_path, CPU, torch.float32).named_parameters())
    for name, original in golden_model.named_parameters():
        layer = name.removesuffix(".weight")
        is_packed = layer in linear_layers(golden_model.config) and layer not in plain
        assert torch.equal(found[name], original) != is_packed, name
    assert not torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])


def test_the_head_is_never_tied(broken):
    change(broken, ("tie_word_embeddings",), True)
    model = weights.load(broken, CPU, torch.float32)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    tensors = load_file(broken / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks 1 of 39 tensors, first lm_head\.weight"):
        weights.load(broken, CPU, torch.float32)


def test_bfloat16_is_the_dtype_that_was_asked_for(checkpoint):
    model = weights.load(checkpoint, CPU, torch.bfloat16)
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    assert weights.stored_dtype(checkpoint) is torch.float32


def change(directory, path, value):
    config = json.loads((directory / "config.json").read_text())
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (directory / "config.json").write_text(json.dumps(config))


GROUP = ("config_groups", "group_0")
BAD_CONFIGS = [
    ("bnb", ("quant_method",), "gptq", "quantization_config.quant_method is 'gptq'"),
    ("bnb", (), "4 bits", "quantization_config.quant_method is None"),
    ("bnb", ("load_in_4bit",), False, "quantization_config.load_in_4bit is False"),
    ("bnb", ("bnb_4bit_quant_type",), "fp4", "quantization_config.bnb_4bit_quant_type is 'fp4'"),
    ("awq", ("format",), "int-quantized", "quantization_config.format is 'int-quantized'"),
    ("awq", ("config_groups",), {}, "quantization_config.config_groups is {}"),
    ("awq", ("transform_config",), {"R1": {}}, "quantization_config.transform_config is {'R1'"),
    ("awq", (*GROUP, "weights"), None, "quantization_config.config_groups.group_0.weights is missing"),
    ("awq", (*GROUP, "input_activations"), {"num_bits": 8}, "config_groups.group_0.input_activations is {'num_bits'"),
    ("awq", (*GROUP, "weights", "num_bits"), 8, "config_groups.group_0.weights.num_bits is 8"),
    ("awq", (*GROUP, "weights", "type"), "float", "config_groups.group_0.weights.type is 'float'"),
    ("awq", (*GROUP, "weights", "actorder"), "group", "config_groups.group_0.weights.actorder is 'group'"),
    ("awq", (*GROUP, "weights", "symmetric"), None, "config_groups.group_0.weights.symmetric is None"),
    ("awq", (*GROUP, "weights", "strategy"), "block", "config_groups.group_0.weights.strategy is 'block'"),
    ("awq", (*GROUP, "weights", "group_size"), 0, "config_groups.group_0.weights.group_size is 0"),
    ("awq", (*GROUP, "weights", "group_size"), 16, "weight_scale has shape"),
    ("awq", (*GROUP, "weights", "symmetric"), False, "weight_zero_point is missing"),
]


@pytest.mark.parametrize(("variant", "path", "value", "message"), BAD_CONFIGS)
def test_a_wrong_configuration_is_named(tmp_path, variant, path, value, message):
    quantise(GOLDEN, tmp_path, variant)
    change(tmp_path, ("quantization_config", *path), value)
    with pytest.raises(ValueError, match=re.escape(message)):
        weights.load(tmp_path, CPU, torch.float32)


def without(name):
    return lambda tensors: tensors.pop(name)


def cut(name):
    return lambda tensors: tensors.update({name: tensors[name][:-1].contiguous()})


def state(**fields):
    def apply(tensors):
        name = f"{Q}.{nf4.STATE}"
        content = json.loads(bytes(tensors[name].tolist())) | fields
        tensors[name] = torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)

    return apply


Q = "model.layers.0.self_attn.q_proj.weight"
BAD_TENSORS = [
    ("bnb", without(f"{Q}.nested_absmax"), f"{Q}.nested_absmax is missing"),
    ("bnb", cut(f"{Q}.absmax"), f"{Q}.absmax has 143 values"),
    ("bnb", cut(Q), f"{Q} has 4607 values"),
    ("bnb", cut(f"{Q}.{nf4.STATE}"), f"{Q}.{nf4.STATE} is not JSON"),
    ("bnb", state(shape=[96]), "shape is [96]"),
    ("bnb", state(dtype="int8"), "dtype is 'int8'"),
    ("bnb", state(blocksize=0), "blocksize is 0"),
    ("bnb", state(nested_offset=None), "nested_offset is None"),
    ("bnb", state(shape=[48, 192]), f"{Q} has shape [48, 192], config.json asks for [96, 96]"),
    ("bnb", without(f"{Q}.{nf4.STATE}"), f"{Q} has shape [4608, 1]"),
    ("awq", without(f"{Q}_scale"), f"{Q}_scale is missing"),
    ("awq", cut(f"{Q}_packed"), f"{Q}_packed has shape [95, 12], must have [96, 12]"),
    ("awq", cut(f"{Q}_shape"), f"{Q}_shape is (96,)"),
    ("awq", without(f"{Q}_packed"), f"lacks 1 of 30 tensors, first {Q}"),
]


@pytest.mark.parametrize(("variant", "damage", "message"), BAD_TENSORS)
def test_a_broken_matrix_is_named(tmp_path, variant, damage, message):
    quantise(GOLDEN, tmp_path, variant)
    tensors = load_file(tmp_path / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=re.escape(message)):
        weights.load(tmp_path, CPU, torch.float32)


def test_bitsandbytes_multiplies_with_the_matrix_it_is_given():
    """On a CPU, where it works as well: which kernel runs is bitsandbytes' affair."""
    tensors, expected = packed_nf4(matrix((96, 128)))
    x = matrix((2, 5, 128))
    found = NF4Linear(NF4Weight.read(tensors, "x"), CPU)(x)
    assert found.shape == (2, 5, 96)
    torch.testing.assert_close(found, x @ expected.T, atol=0.05, rtol=0.01)


@pytest.mark.parametrize("symmetric", [True, False])
def test_torchs_kernel_reads_the_scales_as_they_are_given(symmetric):
    """The kernel for CPUs packs in its own way but takes numbers and scales as the one for GPUs does."""
    tensors, expected, _, form = packed_w4a16(matrix((64, 256), torch.bfloat16), symmetric, 128)
    weight = form.read(tensors, "x")
    scale = weight.scale.repeat_interleave(128, 1)
    numbers = (expected / scale).round() + (0 if symmetric else weight.zeros().repeat_interleave(128, 1)) + 8
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers.int(), 8)
    x = matrix((5, 256), torch.bfloat16)
    found = torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, 128, weight.kernel_scales())
    torch.testing.assert_close(found.float(), x.float() @ expected.float().T, atol=0.15, rtol=0.02)


def test_layers_stay_packed_on_a_gpu_only(monkeypatch):
    cuda = torch.device("cuda")
    tensors, _ = packed_nf4(matrix((96, 128)))
    nf4_weight = NF4Weight.read(tensors, "x")
    tensors, _, _, form = packed_w4a16(matrix((96, 128)), True, 128)
    w4a16_weight = form.read(tensors, "x")
    assert nf4_weight.layer(CPU, torch.bfloat16) is None
    assert w4a16_weight.layer(CPU, torch.bfloat16) is None
    with pytest.warns(UserWarning, match=r"no int4 kernel for torch\.float32, 96 x 128 in groups of 128"):
        assert w4a16_weight.layer(cuda, torch.float32) is None
    monkeypatch.setattr(nf4.importlib.util, "find_spec", lambda _: None)
    with pytest.warns(UserWarning, match="bitsandbytes is not installed"):
        assert nf4_weight.layer(cuda, torch.bfloat16) is None


def test_memory_at_the_released_sizes_is_what_the_documents_say():
    config = Step1Config(3072, 8192, 48, 4, 32, 32768, 74752, 1e-5, 3)
    packed = {f"{layer}.weight" for layer in linear_layers(config) if layer != "lm_head"}
    shapes = parameter_shapes(config)
    total = sum(math.prod(shape) for shape in shapes.values())
    values = sum(math.prod(shapes[name]) for name in packed)
    sample = matrix((64, 8192), torch.bfloat16)
    tensors, _ = packed_nf4(sample)
    by_block = sum(tensors[f"x.weight{part}"].nbytes for part in ("", ".absmax", ".nested_absmax"))
    tensors, _, _, form = packed_w4a16(sample, True, 128)
    by_group = tensors["x.weight_packed"].nbytes + form.read(tensors, "x").kernel_scales().nbytes
    text = (ROOT / "docs" / "architecture.md").read_text()
    for variant, each in {"base": 2, "bnb": by_block / sample.numel(), "awq": by_group / sample.numel()}.items():
        gigabytes = (each * values + 2 * (total - values)) / 1e9
        assert re.search(rf"^\| `{variant}` \|.*\| {gigabytes:.2f} GB \|", text, re.MULTILINE), gigabytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_packed_layers_on_a_gpu():
    cuda = torch.device("cuda")
    x = matrix((3, 7, 256), torch.bfloat16).to(cuda)
    tensors, expected = packed_nf4(matrix((192, 256), torch.bfloat16))
    layers = [(NF4Weight.read(tensors, "x").layer(cuda, torch.bfloat16), NF4Linear, expected)]
    for symmetric in (True, False):
        tensors, expected, _, form = packed_w4a16(matrix((192, 256), torch.bfloat16), symmetric, 128)
        layers.append((form.read(tensors, "x").layer(cuda, torch.bfloat16), W4A16Linear, expected))
    for layer, kind, dense in layers:
        assert isinstance(layer, kind)
        torch.testing.assert_close(layer(x).float(), x.float() @ dense.float().to(cuda).T, atol=0.2, rtol=0.02)
        assert sum(buffer.nbytes for buffer in layer.buffers()) < dense.nbytes / 3
