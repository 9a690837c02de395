import pytest
import torch

from python_backend.token2wav import runtime as runtimes
from python_backend.token2wav.onnx_runtime import OnnxRuntime
from python_backend.token2wav.torch_runtime import TorchRuntime

LENGTHS = [17, 5, 9]


@pytest.mark.parametrize("choice", [{"runtime": "tf"}, {"device": "tpu"}, {"dtype": "int8"}])
def test_unknown_choices_are_refused(exported, choice):
    (name,) = choice
    with pytest.raises(ValueError, match=f"parameter {name} must be one of"):
        runtimes.open_runtime(exported, **choice)


def test_onnxruntime_has_no_bfloat16(exported):
    with pytest.raises(ValueError, match="dtype"):
        runtimes.open_runtime(exported, "onnxruntime", "cpu", "bfloat16")


@pytest.mark.parametrize(
    ("flags", "width", "expected"),
    [
        ("avx512f amx_bf16 amx_tile", 512, torch.bfloat16),
        ("avx512f amx_bf16 amx_tile", 128, torch.float32),
        ("avx2", 512, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_the_cpu_multiplies_it_and_it_matters(flags, width, expected, tmp_path, monkeypatch):
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text(f"flags : {flags}\n")
    monkeypatch.setattr(runtimes, "CPU_INFO", cpu_info)
    assert runtimes.default_dtype(torch.device("cpu"), width) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_the_estimators_blocks_change_their_type(exported, dtype):
    loaded = runtimes.open_runtime(exported, device="cpu", dtype=dtype)
    assert isinstance(loaded, TorchRuntime)
    assert loaded._flow.decoder.estimator.blocks[0].mlp.fc1.weight.dtype == getattr(torch, dtype)
    assert loaded._flow.encoder.after_norm.weight.dtype == torch.float32


@torch.inference_mode()
def test_graphs_equal_torch_for_padded_batches_of_other_sizes(exported, runtime, config):
    graphs = OnnxRuntime(exported, "cpu")
    random = torch.Generator().manual_seed(0)
    rows, pairs = len(LENGTHS), max(LENGTHS)
    arguments = (
        torch.randint(0, config.vocab_size, (rows, pairs, 2), generator=random),
        torch.tensor(LENGTHS),
        torch.randn(rows, config.speaker_size, generator=random),
        torch.randn(rows, 2 * pairs, config.mel_channels, generator=random),
    )
    mask = torch.arange(2 * pairs)[None] < 2 * torch.tensor(LENGTHS)[:, None]
    context = runtime.context(*arguments)
    assert ((graphs.context(*arguments) - context) * mask[..., None]).abs().max() < 2e-5
    times = torch.tensor([0.0, 0.3, 0.9, 1.0])
    modulation = runtime.modulation(times)
    # float32 angles of up to 1000 rad: sines of two libraries differ by as much.
    assert (graphs.modulation(times) - modulation).abs().max() < 2e-4
    state = torch.randn(rows, 2 * pairs, config.mel_channels, generator=random)
    for keys in (mask, None):
        expected = runtime.velocity(state, context, modulation[1], keys)
        difference = graphs.velocity(state, context, modulation[1], keys) - expected
        assert (difference * (mask[..., None] if keys is not None else 1)).abs().max() < 2e-5
