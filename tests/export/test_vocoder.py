"""HiFT against the golden arrays, in torch and as the exported graph in ONNX Runtime."""

import math
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.checkpoint import CheckpointError, state_dict
from export.demo.vocoder import write_vocoder
from export.resblock import ResBlock
from export.stft import InverseStft, Stft
from export.tiling import Tiling
from export.vocoder import DIRECTION, INPUTS, OUTPUTS, export, fold_weight_norm, load, read_config
from tests.vocoder_golden import CHECKPOINT, DIRECTORY, arrays, assert_golden, hift

torch.set_num_threads(1)
GOLDEN = arrays("golden_hift")
HOP = 480


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocoder")
    export(CHECKPOINT, folder)
    return folder / "model.onnx"


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def vocoder(request, graph):
    if request.param == "torch":
        return lambda *inputs: dict(zip(OUTPUTS, hift()(*inputs), strict=True))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options)

    def run(*inputs):
        feeds = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
        return {name: torch.from_numpy(value) for name, value in zip(OUTPUTS, session.run(OUTPUTS, feeds), strict=True)}

    return run


def one_channel(noise_times_32):
    """Merge the recorded noise of the nine harmonics: w·n / |w|."""
    weight = hift().m_source.l_linear.weight[0]
    return (noise_times_32.float() / 32) @ weight / weight.norm()


def lengths(*values):
    return torch.tensor(values, dtype=torch.int32)[:, None]


def golden_inputs(case):
    mel = GOLDEN[f"{case}_mel"]
    frames = mel.shape[2]
    recorded = GOLDEN.get(f"{case}_noise_i8")
    noise = torch.zeros(1, HOP * frames) if recorded is None else one_channel(recorded)
    cache = {"hc": GOLDEN["hc_cache_source"], "hd": GOLDEN["hd_source"]}.get(case, torch.zeros(1, 1, 1))[:, 0]
    return mel, lengths(frames), noise, cache, lengths(cache.shape[1] if case in ("hc", "hd") else 0)


@pytest.mark.parametrize("case", ["hz", "hr", "hc", "hx", "hd"])
def test_golden_mel_to_waveform(vocoder, case):
    outputs = vocoder(*golden_inputs(case))
    assert_golden("golden_hift", f"{case}_wav", outputs["waveform"])
    if case != "hd":
        assert_golden("golden_hift", f"{case}_f0", outputs["f0"])
        assert_golden("golden_hift", f"{case}_source", outputs["source"])
    assert outputs["waveform_length"].tolist() == [[outputs["waveform"].shape[1]]]


@pytest.mark.parametrize("case", ["t1", "t1bf16", "t2"])
def test_golden_end_of_the_chain(vocoder, case):
    mel = arrays("golden_token2wav")[f"{case}_mel"]
    frames = mel.shape[2]
    outputs = vocoder(mel, lengths(frames), torch.zeros(1, HOP * frames), torch.zeros(1, 1), lengths(0))
    assert_golden("golden_token2wav", f"{case}_f0", outputs["f0"])
    assert_golden("golden_token2wav", f"{case}_wav", outputs["waveform"])


@pytest.mark.parametrize("noise", ["zeros", "noise"])
def test_golden_source_of_a_hand_made_f0(noise):
    f0 = GOLDEN["src_f0"]
    excitation = one_channel(GOLDEN["src_noise_i8"]) if noise == "noise" else torch.zeros(1, HOP * f0.shape[1])
    assert_golden("golden_hift", f"src_source_{noise}", hift().m_source(f0, excitation))


def test_golden_spectra():
    source = GOLDEN["hz_source"][:, 0]
    assert_golden("golden_hift", "hz_source_stft", hift().stft(source, lengths(source.shape[1]))[:, :, 0])
    spectrum, mask = hift().spectrum(GOLDEN["hz_mel"], lengths(GOLDEN["hz_mel"].shape[2]), source)
    assert_golden("golden_hift", "hz_predecode", spectrum[:, :, 0])
    assert mask.all()


def test_a_padded_batch_gives_the_answers_of_each_row_alone(vocoder):
    valid = [24, 10, 17, 1, 24]
    random = torch.Generator().manual_seed(3)
    mel = 2 * torch.randn(len(valid), 80, 26, generator=random) - 4
    noise = torch.randn(len(valid), HOP * 26, generator=random)
    cached = 0.1 * torch.randn(len(valid), 700, generator=random)
    cached_length = lengths(0, 50, 700, 700, 0)
    together = vocoder(mel, lengths(*valid), noise, cached, cached_length)
    assert together["waveform_length"].flatten().tolist() == [HOP * frames for frames in valid]
    for row, frames in enumerate(valid):
        alone = vocoder(
            mel[[row], :, :frames].contiguous(),
            lengths(frames),
            noise[[row], : HOP * frames].contiguous(),
            cached[[row]],
            cached_length[[row]],
        )
        # Float noise of F0, in Hz, becomes phase; all else follows from it.
        for name, tolerance in (("f0", 1e-3), ("source", 1e-4), ("waveform", 1e-4)):
            size = alone[name].shape[1]
            assert (together[name][[row], :size] - alone[name]).abs().max() < tolerance
            assert not together[name][row, size:].any()


def test_lengths_out_of_range_are_clamped(vocoder):
    mel, _, noise, cached, _ = golden_inputs("hz")
    frames = mel.shape[2]
    whole = vocoder(mel, lengths(frames), noise, cached, lengths(0))
    beyond = vocoder(mel, lengths(frames + 9), noise, cached, lengths(0))
    assert beyond["waveform_length"].item() == HOP * frames
    assert torch.equal(beyond["waveform"], whole["waveform"])
    for nothing in (0, -3):
        outputs = vocoder(mel, lengths(nothing), noise, cached, lengths(5))
        assert outputs["waveform_length"].item() == 0
        assert not outputs["waveform"].any()


def test_a_cache_longer_than_the_clip_is_cut(vocoder):
    mel, length, noise, _, _ = golden_inputs("hz")
    cached = torch.full((1, noise.shape[1] + 99), 0.25)
    outputs = vocoder(mel, length, noise, cached, lengths(cached.shape[1]))
    assert (outputs["source"] == 0.25).all()


def test_source_of_a_minute_keeps_its_phase():
    """Against the exact phase in float64, where a float32 running sum is off by a tenth of a turn and more."""
    source = hift().m_source
    frames = 3000
    f0 = 180 + 60 * torch.sin(torch.arange(frames) / 40)
    sines = source._sines(f0[None])[0].double()
    centre = torch.cumsum(f0.double() / 50, dim=0)
    for order in (1, 9):
        exact = torch.sin(2 * math.pi * order * centre)
        # Samples 239 and 240 of a frame lie half a sample from its centre.
        half_sample = 2 * math.pi * order * f0.max() / 24_000
        middle = sines[order - 1, :, 239:241].mean(dim=1)
        assert (middle - exact).abs().max() < half_sample**2 + 2e-2


@pytest.mark.parametrize("size", [16, 64])
def test_stft_and_its_inverse_are_torchs(size):
    hop, samples = size // 4, 960
    signal = torch.randn(2, samples, generator=torch.Generator().manual_seed(1))
    window = torch.hann_window(size)
    expected = torch.stft(signal, size, hop, window=window, return_complex=True)
    spectrum = Stft(size, hop)(signal, lengths(samples, samples))[:, :, 0]
    assert (spectrum - torch.cat([expected.real, expected.imag], dim=1)).abs().max() < 1e-5
    frames = torch.ones(2, 1, 1, expected.shape[2])
    back = InverseStft(size, hop)(expected.abs()[:, :, None], expected.angle()[:, :, None], frames)
    assert (back - signal).abs().max() < 1e-5


def test_folded_snake_is_snake():
    block = ResBlock(6, 3, (1, 3))
    alphas = torch.tensor([1.0, -0.7, 2.5, 1e-3, 0.0, -1e-12])
    for snake in [*block.activations1, *block.activations2]:
        snake.alpha.copy_(alphas)
    x = torch.randn(1, 6, 1, 40, generator=torch.Generator().manual_seed(2))

    def snake(y):
        return y + torch.sin(alphas[:, None, None] * y) ** 2 / (alphas[:, None, None] + 1e-9)

    expected = x
    for conv1, conv2 in zip(block.convs1, block.convs2, strict=True):
        expected = expected + conv2(snake(conv1(snake(expected))))
    block.fold()
    assert (block(x, torch.ones(1, 1, 1, 40)) - expected).abs().max() < 1e-4


def test_weight_norm_folds_as_torchs():
    convolution = torch.nn.utils.parametrizations.weight_norm(torch.nn.ConvTranspose1d(3, 5, 4))
    convolution.parametrizations.weight.original0.mul_(1.7)
    folded = fold_weight_norm({f"up.{name}": value for name, value in convolution.state_dict().items()})
    assert folded.keys() == {"up.bias", "up.weight"}
    assert (folded["up.weight"] - convolution.weight).abs().max() < 1e-6


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_weights_are_loaded_strictly(tmp_path, change):
    shutil.copytree(DIRECTORY, tmp_path / "copy")
    weights = state_dict(tmp_path / "copy" / "hift.pt")
    if change == "missing":
        del weights["resblocks.8.activations2.2.alpha"]
    else:
        weights["resblocks.9.activations2.2.alpha"] = torch.ones(6)
    torch.save(weights, tmp_path / "copy" / "hift.pt")
    with pytest.raises(RuntimeError, match=r"activations2\.2\.alpha"):
        load(tmp_path / "copy")


def test_a_missing_size_is_named(tmp_path):
    text = (DIRECTORY / "cosyvoice.yaml").read_text()
    (tmp_path / "cosyvoice.yaml").write_text(text.replace("nsf_sigma", "sigma"))
    with pytest.raises(CheckpointError, match="nsf_sigma"):
        read_config(tmp_path)


def test_random_checkpoint_gives_steady_noise_of_speech_level(tmp_path):
    write_vocoder(tmp_path, "demo", 2025)
    assert any(name.endswith(DIRECTION) for name in state_dict(tmp_path / "hift.pt"))
    network = load(tmp_path)
    random = torch.Generator().manual_seed(0)
    mel, noise = 1.5 * torch.randn(1, 80, 100, generator=random), torch.randn(1, HOP * 100, generator=random)
    waveform, _, _, f0 = network(mel, lengths(100), noise, torch.zeros(1, 1), lengths(0))
    level = waveform.reshape(10, -1).square().mean(dim=1).sqrt()
    assert level.min() > 0.05
    assert level.max() < 0.3
    assert 80 < f0.min() < f0.max() < 400


# What NVIDIA's parser takes of the operators used here (docs/operators.md of onnx/onnx-tensorrt).
TENSORRT = """
Abs Add Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos CumSum Div Elu Exp Flatten Floor Gather
GatherElements Greater LeakyRelu Less MatMul Max Min Mul Pad Range ReduceL2 Reshape Round Shape Sin Slice Sub Tanh
Transpose Unsqueeze
"""


def test_graph_uses_only_operators_that_tensorrt_parses(graph):
    model = onnx.load(graph)
    assert {node.op_type for node in model.graph.node} <= set(TENSORRT.split())
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.DOUBLE not in kinds


def test_graph_has_the_documented_interface(graph):
    session = onnxruntime.InferenceSession(graph)
    assert [(tensor.name, tensor.type, tensor.shape[1:]) for tensor in session.get_inputs()] == [
        ("mel", "tensor(float)", [80, "frames"]),
        ("mel_length", "tensor(int32)", [1]),
        ("noise", "tensor(float)", ["samples"]),
        ("cached_source", "tensor(float)", ["cached"]),
        ("cached_source_length", "tensor(int32)", [1]),
    ]
    outputs = {tensor.name: tensor.type for tensor in session.get_outputs()}
    assert outputs == {
        "waveform": "tensor(float)",
        "waveform_length": "tensor(int32)",
        "source": "tensor(float)",
        "f0": "tensor(float)",
    }
    assert np.float32(session.get_inputs()[0].shape[1]) == 80


@pytest.mark.parametrize("size", [1, 59, 60, 4096, 4097, 9000, 40_000])
@pytest.mark.parametrize("channels", [18, 64, 128, 512])
def test_tiles_hold_their_neighbours_and_join_again(size, channels):
    halo = 60
    tiling = Tiling(size, channels, halo)
    rows = torch.arange(1.0, size + 1).expand(2, 1, 1, size)
    tiles = tiling.split(rows)
    assert torch.equal(tiling.join(tiles), rows)
    padded = torch.nn.functional.pad(rows, (halo, tiles.shape[2] * tiles.shape[3] - size))
    for index in range(tiles.shape[2]):
        start = index * tiling.width
        assert torch.equal(tiles[:, :, index], padded[:, :, 0, start : start + tiles.shape[3]])
