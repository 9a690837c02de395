"""Every whole-utterance array of golden_flow.npz, in float32 torch."""

import pytest
import torch

from python_backend.token2wav.solver import solve, time_grid
from tests.vocoder_golden import arrays, assert_golden

GOLDEN = arrays("golden_flow")


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("case", ["s", "m", "neg"])
def test_encoder(flow, case):
    pairs = GOLDEN[f"enc_{case}_token"].clamp(min=0)
    lengths = torch.tensor([pairs.shape[1]])
    embedded = flow.input_embedding(pairs)
    assert_golden("golden_flow", f"enc_{case}_emb", embedded)
    assert_golden("golden_flow", f"enc_{case}_h", flow.encoder(embedded, lengths))
    assert_golden("golden_flow", f"enc_{case}_mu", flow.mu(pairs, lengths))


def test_speaker_projection(flow):
    assert_golden("golden_flow", "spk_out", flow.speaker(GOLDEN["spk_in"]))


def test_time_embedding_and_grid(flow):
    assert_golden("golden_flow", "temb_out", flow.decoder.estimator.t_embedder(GOLDEN["temb_t"]))
    assert_golden("golden_flow", "t_span", time_grid(10))
    assert_golden("golden_flow", "flow1_step_t", time_grid(10)[:-1])


@pytest.mark.parametrize("case", ["dit1", "dit2"])
def test_one_step(flow, case):
    estimator = flow.decoder.estimator
    x, mu, condition = (GOLDEN[f"{case}_{name}"].mT for name in ("x", "mu", "cond"))
    mask = GOLDEN[f"{case}_mask"][:, 0].bool()
    context = estimator.context(mu, GOLDEN[f"{case}_spks"], condition)
    modulation = estimator.modulation(GOLDEN[f"{case}_t"])
    # The golden rows have times of their own; rows of one call share theirs.
    rows = [estimator(x[[row]], context[[row]], modulation[row], mask[[row]]) for row in range(len(x))]
    assert_golden("golden_flow", f"{case}_out", torch.cat(rows).mT)


class Recorder:
    """Keeps the states a solve goes through."""

    def __init__(self, estimator):
        self.modulation = estimator.modulation
        self.estimator = estimator
        self.states, self.velocities = [], []

    def velocity(self, x, context, modulation, mask):
        self.states.append(x[0])
        self.velocities.append(self.estimator(x, context, modulation, mask))
        return self.velocities[-1]


@pytest.mark.parametrize(
    ("case", "steps", "expected"),
    [("flow1", 10, "flow1_mel"), ("flow2", 10, "flow2_mel"), ("flow2", 4, "flow2_mel_4steps")],
)
def test_solve(flow, config, case, steps, expected):
    pairs = torch.cat([GOLDEN[f"{case}_prompt_token"], GOLDEN[f"{case}_token"]], dim=1)
    prompt = GOLDEN[f"{case}_prompt_feat"]
    frames = 2 * pairs.shape[1]
    condition = torch.zeros(1, frames, config.mel_channels)
    condition[:, : prompt.shape[1]] = prompt
    context = flow.context(pairs, torch.tensor([pairs.shape[1]]), GOLDEN[f"{case}_embedding"], condition)
    recorder = Recorder(flow.decoder.estimator)
    noise = GOLDEN["rand_noise"][:, :, :frames].mT
    mel = solve(recorder, noise, context, torch.tensor([frames]), steps, config.guidance)
    assert_golden("golden_flow", expected, mel[:, prompt.shape[1] :].mT)
    if case == "flow1":
        assert_golden("golden_flow", "flow1_step_x", torch.stack(recorder.states).mT)
        assert_golden("golden_flow", "flow1_step0_v", recorder.velocities[0].mT)
