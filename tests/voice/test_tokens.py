"""Interleaving of the two code streams."""

import numpy as np
import pytest

from python_backend.voice.tokens import interleave
from tests.tokenizer_golden import CLIPS, arrays

AUDIO_TOKEN = 65_536


@pytest.mark.parametrize("name", CLIPS)
def test_golden_codes_give_the_golden_tokens(name):
    golden = arrays(name)
    tokens = interleave(golden["vq02"], golden["vq06"])
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens + AUDIO_TOKEN, golden["speech_tokens"])
    assert "".join(f"<audio_{token}>" for token in tokens) == str(golden["token_str"])
    whole = interleave(golden["notrim_vq02"], golden["notrim_vq06"])
    assert "".join(f"<audio_{token}>" for token in whole) == str(golden["notrim_token_str"])


@pytest.mark.parametrize(("linguistic", "semantic", "groups"), [(0, 0, 0), (1, 3, 0), (2, 2, 0), (5, 6, 2), (4, 9, 2)])
def test_codes_that_fill_no_group_are_dropped(linguistic, semantic, groups):
    tokens = interleave(np.arange(linguistic, dtype=np.int32), np.arange(semantic, dtype=np.int32))
    assert tokens.shape == (5 * groups,)
    assert tokens[:5].tolist() == [0, 1, 1024, 1025, 1026][: len(tokens)]
