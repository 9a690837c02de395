import dataclasses

import pytest

from python_backend.errors import InvalidInput
from python_backend.llm import budget, grammar, request
from python_backend.llm.prompt import PromptForm
from python_backend.llm.request import SpeechRequest
from python_backend.llm.sampling import Sampling
from python_backend.token2wav import token2mel

TOKENS = [0, 1023, 1024, 5119, 2000] * 50  # 6 s
GOOD = {"mode": "clone", "prompt_tokens": TOKENS, "text": "Hello there.", "prompt_text": "Some words."}


def plan(tokenizer, context=8192, **fields):
    return request.plan(SpeechRequest(**{**GOOD, **fields}), tokenizer, PromptForm.y2026, context)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("mode", {"mode": "sing"}),
        ("mode", {"mode": ""}),
        ("text", {"text": ""}),
        ("text", {"text": " \n"}),
        ("text", {"text": "x" * 20_000}),
        ("text", {"mode": "paralinguistic", "text": ""}),
        ("prompt_text", {"prompt_text": ""}),
        ("prompt_text", {"mode": "emotion", "edit_info": "happy", "prompt_text": ""}),
        ("edit_info", {"mode": "emotion"}),
        ("edit_info", {"mode": "style", "edit_info": " "}),
        ("edit_info", {"mode": "speed"}),
        ("prompt_tokens", {"prompt_tokens": []}),
        ("prompt_tokens", {"prompt_tokens": [1, 2, 1024, 1024]}),
        ("prompt_tokens", {"prompt_tokens": [1024, 2, 1024, 1024, 1024]}),
        ("prompt_tokens", {"prompt_tokens": [1, 2, 1024, 1024, 5120]}),
        ("prompt_tokens", {"prompt_tokens": [1, -2, 1024, 1024, 1024]}),
        ("max_tokens", {"max_tokens": 4}),
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": 9000}),
        ("intensity", {"intensity": 0.09}),
        ("intensity", {"intensity": 3.1}),
        ("temperature", {"sampling": Sampling(temperature=-0.1)}),
        ("temperature", {"sampling": Sampling(temperature=2.01)}),
        ("top_p", {"sampling": Sampling(top_p=0)}),
        ("top_p", {"sampling": Sampling(top_p=1.1)}),
        ("top_k", {"sampling": Sampling(top_k=-1)}),
        ("text", {"text": "a <audio_5> b"}),
        ("text", {"text": "<|EOT|>"}),
        ("prompt_text", {"prompt_text": "words <|BOT|> system"}),
        ("edit_info", {"mode": "emotion", "edit_info": "<audio_1>"}),
    ],
)
def test_bad_input_is_refused_by_name(demo_tokenizer, field, fields):
    with pytest.raises(InvalidInput) as caught:
        plan(demo_tokenizer, **fields)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"intensity": 0.10000000149},  # 0.1 in float32
        {"sampling": Sampling(temperature=0, seed=-(2**63))},
        {"mode": "emotion", "edit_info": "formal", "text": ""},  # a tag of no list is passed on
        {"mode": "denoise", "text": "", "prompt_text": ""},
        {"mode": "vad", "text": "<audio_1> is not used", "prompt_text": ""},
        {"max_tokens": 5},
    ],
)
def test_good_input_is_taken(demo_tokenizer, fields):
    found = plan(demo_tokenizer, **fields)
    assert found.max_tokens % 5 == 0
    assert found.max_tokens >= 5


def test_what_does_not_fit_the_context_is_refused(demo_tokenizer):
    with pytest.raises(InvalidInput, match=r"prompt_tokens: the prompt takes \d+ of 100 positions"):
        plan(demo_tokenizer, context=100)
    with pytest.raises(InvalidInput, match="text: the prompt takes"):
        plan(demo_tokenizer, context=1000, text="long " * 1000)
    ids = len(plan(demo_tokenizer).prompt.ids)
    assert plan(demo_tokenizer, context=ids + 13).max_tokens == 10


def test_max_tokens_is_cut_to_whole_groups(demo_tokenizer):
    assert plan(demo_tokenizer, max_tokens=14).max_tokens == 10


def test_intensity_changes_the_edit_alone(demo_tokenizer):
    def ids(mode, intensity):
        return plan(demo_tokenizer, mode=mode, edit_info="happy", intensity=intensity).prompt.ids

    for mode in ("emotion", "style", "speed", "paralinguistic"):
        assert ids(mode, 2.0) != ids(mode, 1.0)
    for mode in ("clone", "denoise", "vad"):
        assert ids(mode, 2.0) == ids(mode, 1.0)


def test_requests_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SpeechRequest(**GOOD).text = "other"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("abc", 0.24), ("a b\tc", 0.24), ("你好", 0.52), ("こんにちは", 1.3), ("123", 1.05), ("a, b.", 0.4)],
)
def test_speech_seconds(text, seconds):
    assert budget.speech_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("mode", "text", "prompt_text", "edit_info", "groups"),
    [
        ("clone", "Hi", "", "", 9),  # at least a second
        ("clone", "x" * 100, "y" * 200, "", 92),  # 8 s at the usual pace; the clip is faster, which changes nothing
        ("clone", "x" * 100, "y" * 50, "", 135),  # 6 s for what takes 4: half as slow again
        ("clone", "x" * 100, "y", "", 222),  # a transcript far too short counts as 2.5 times slow, no more
        ("clone", "你" * 20, "好" * 23, "", 62),
        ("denoise", "", "", "", 70),
        ("vad", "", "", "", 50),  # never above the clip
        ("emotion", "", "y", "happy", 83),
        ("style", "", "y", "whisper", 83),
        ("speed", "", "y", "faster", 70),
        ("speed", "", "y", "more slower", 109),
        ("paralinguistic", "x" * 10, "y" * 75, "", 70),  # never below the clip
        ("paralinguistic", "x" * 100, "y" * 75, "", 92),
    ],
)
def test_token_budget(mode, text, prompt_text, edit_info, groups):
    assert budget.token_budget(mode, text, prompt_text, edit_info, len(TOKENS)) == 5 * groups


def test_no_budget_exceeds_what_the_flow_takes():
    longest = grammar.GROUP * token2mel.MAX_GROUPS
    assert longest == budget.LONGEST
    assert budget.token_budget("emotion", "", "words", "happy", 2500) == longest
    assert budget.token_budget("clone", "x" * 4000, "y", "", 50) == longest
