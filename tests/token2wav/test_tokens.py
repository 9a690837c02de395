import numpy as np
import pytest

from python_backend.errors import InvalidInput
from python_backend.token2wav.tokens import nearest_frames, pairs
from tests.vocoder_golden import arrays, tail_filled

GOLDEN = arrays("golden_tokens")
WRONG_SLOTS = ("14", "15")
CASES = sorted(name.split("_")[1] for name in GOLDEN if name.startswith("reshape") and name.endswith("_in"))


@pytest.mark.parametrize("case", [case for case in CASES if case not in WRONG_SLOTS])
def test_pairs_are_the_golden_ones(case):
    tokens = tail_filled(GOLDEN[f"reshape_{case}_in"].numpy())
    np.testing.assert_array_equal(pairs("tokens", tokens, 5121, 100), GOLDEN[f"reshape_{case}_out"])


@pytest.mark.parametrize("case", WRONG_SLOTS)
def test_a_value_in_the_wrong_slot_is_refused(case):
    tokens = GOLDEN[f"reshape_{case}_in"].numpy().astype(np.int32)
    with pytest.raises(InvalidInput, match=r"^prompt_tokens: value \S+ at index \d+ is outside"):
        pairs("prompt_tokens", tokens, 5121, 100)


@pytest.mark.parametrize(
    ("slot", "value", "kind"),
    [(0, 1024, "vq02"), (1, -1, "vq02"), (2, 1023, "vq06"), (4, 5120, "vq06")],
)
def test_the_error_names_index_and_slot(slot, value, kind):
    tokens = np.array([0, 1023, 1024, 5119, 2000] * 3, dtype=np.int32)
    pairs("tokens", tokens, 5121, 3)
    tokens[5 + slot] = value
    with pytest.raises(
        InvalidInput, match=rf"^tokens: value {value} at index {5 + slot} is outside .* of a {kind} slot"
    ):
        pairs("tokens", tokens, 5121, 3)


@pytest.mark.parametrize("count", [0, 1, 4, 6, 20])
def test_broken_groups_and_too_many_are_refused(count):
    tokens = np.resize(np.array([0, 1023, 1024, 5119, 2000], dtype=np.int32), count)
    with pytest.raises(InvalidInput, match=r"^tokens: "):
        pairs("tokens", tokens, 5121, 3)


@pytest.mark.parametrize("case", range(len(GOLDEN["nearest_in_out"])))
def test_prompt_frames_are_the_golden_ones(case):
    frames, wanted = GOLDEN["nearest_in_out"][case].tolist()
    np.testing.assert_array_equal(nearest_frames(frames, wanted), GOLDEN[f"nearest_{case:02d}_idx"])


@pytest.mark.parametrize("case", ["t1", "t2"])
def test_prompt_mel_is_aligned_as_the_original_aligns_it(case):
    mels = arrays("golden_token2wav")
    aligned = mels[f"{case}_prompt_feat_aligned"][0]
    prompt = mels[f"{case}_prompt_feat"][0]
    np.testing.assert_array_equal(prompt[nearest_frames(len(prompt), len(aligned))], aligned)
