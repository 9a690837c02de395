import hashlib

import pytest

from python_backend.llm import prompt
from python_backend.llm.prompt import PromptForm, clone_prompt, edit_instruction, edit_prompt, intensity_word

# vq02 codes 1, 2, 3, 4 and vq06 codes 10 … 15.
TOKENS = [1, 2, 1034, 1035, 1036, 3, 4, 1037, 1038, 1039]
AUDIO_TEXT = "".join(f"<audio_{token}>" for token in TOKENS)
AUDIO_IDS = [65536 + token for token in TOKENS]

CLONE = [
    *(1, 4, 2323, 78, 19091, 15665, 424, 336, 2308, 324, 1150, 17929, 327, 1332, 332, 12559, 353, 324, 24363, 2048),
    *(78, 78, 432, 27908, 339, 2568, 422, 78, 27908, 598, 352, 324, 5431, 78, 27908, 324, 23005, 2765, 352, 324, 78),
    *(6085, 981, 326, 78, 27908, 15665, 8056, 332, 352, 324, 78, *AUDIO_IDS, 78, 432, 27908, 339, 955, 422, 78, 3),
    *(4, 4623, 78, 4791, 981, 326, 3, 4, 15886, 78),
]
EDIT_SYSTEM = [
    *(2323, 78, 4566, 348, 15135, 324, 16064, 411, 15665, 43794, 353, 8394, 2446, 35226, 327, 770, 324, 15027, 350),
    *(10281, 412, 3199, 32157, 353, 47371, 39881, 22115, 6000, 358, 13311, 765, 8897, 326, 9630, 49709, 324, 574, 332),
    *(348, 10255, 3739, 346, 417, 456, 2275, 850, 324, 32918, 327, 1988, 769, 549, 11209, 358, 352, 78, 794, 779),
    *(14484, 467, 1121, 456, 2275, 850, 78, 794, 563, 46874, 412, 324, 4008, 324, 21320, 78, 794, 13908, 337, 2170),
    *(410, 5842, 324, 39453, 6000, 78, 794, 324, 11248, 18809, 412, 674, 324, 7035, 412, 78, 19770, 352, 2537, 883),
    *(8708, 32157, 350, 6364, 4814, 353, 504, 4995, 358, 31257, 558, 10281, 353, 19798, 336, 1472, 33907, 15665),
    *(15340, 332, 353, 417, 456, 2275, 6000, 326, 78),
]
EDIT_TAIL = [
    *(4623, 78, 17758, 336, 2308, 15665, 992, 29799, 326, 392, 2765, 19892, 358, 336, 15665, 379, 352, 7801, 981, 326),
    *(78, 78, *AUDIO_IDS, 78, 3, 4, 15886, 78),
]
AWKWARD = [
    *(
        "",
        "你好，世界。",
        "日本語カタカナ",
        "한국어 문장",
        "😀👍🏽 emoji",
        "🏴‍☠️",
        "\ttab\there",
        "  leading",
        "trailing  ",
    ),
    *(
        "a  b   c",
        "\n\nlines\r\n",
        "[Laughter] ha",
        "<b>html</b>",
        "guo4guo1",
        "ﬁ é",
        "▁",
        "<|EOT",
        "<audio_",
        "１２３",
    ),
]


def test_templates_are_the_released_ones():
    clone = prompt.CLONE_SYSTEM_HEAD + "{prompt_wav_tokens}" + prompt.CLONE_SYSTEM_TAIL
    assert digest(clone) == "ad1cc8aba22d1570a8a815e39c28950137c577d15c5af8b7c99ba9a843e1dcef"
    assert digest(prompt.EDIT_SYSTEM) == "a0d0158175cfdb236a9815fa9a62fc715126fc74e34ca3dc534d20fe2896ef75"


def test_clone_ids(released_tokenizer):
    found = clone_prompt(released_tokenizer, "Target line.", "Reference line.", TOKENS)
    assert list(found.ids) == CLONE
    assert found.ids[: found.prefix_length] == tuple(CLONE[: CLONE.index(4623) + 2])


def test_edit_ids(released_tokenizer):
    instruction = edit_instruction("emotion", "Reference line.", "happy", "")
    found = edit_prompt(released_tokenizer, instruction, TOKENS)
    assert list(found.ids) == [1, 4, *EDIT_SYSTEM, 3, 4, *EDIT_TAIL]
    assert len(found.ids) == 166


def test_form_2025_starts_every_piece_anew(released_tokenizer):
    clone = clone_prompt(released_tokenizer, "Target line.", "Reference line.", TOKENS, PromptForm.y2025, "debug")
    expected = [part for token in CLONE for part in ((1, token) if token in (2323, 4623, 15886) else (token,))]
    assert list(clone.ids) == expected
    assert len(clone.ids) == 83

    instruction = edit_instruction("emotion", "Reference line.", "happy", "")
    edit = edit_prompt(released_tokenizer, instruction, TOKENS, PromptForm.y2025)
    tail = [*EDIT_TAIL[:2], 1, 12065, *EDIT_TAIL[3:-2], 1, *EDIT_TAIL[-2:]]  # 12065 is ▁Make, 17758 is Make
    assert list(edit.ids) == [1, 4, 1, *EDIT_SYSTEM, 3, 4, 1, *tail]


def test_form_2025_names_the_speaker_after_the_voice(released_tokenizer):
    def ids(prompt_text, tokens):
        return clone_prompt(released_tokenizer, "Hi.", prompt_text, tokens, PromptForm.y2025).ids

    assert ids("a", TOKENS) == ids("a", TOKENS)
    assert len({ids("a", TOKENS), ids("b", TOKENS), ids("a", [0, *TOKENS[1:]])}) == 3


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_encode_as_the_chat_template_does(released_tokenizer, text):
    encode = released_tokenizer._model.encode  # knows <audio_N>, so this is the recipe for the rendered string
    system = prompt.CLONE_SYSTEM_HEAD.format(speaker="debug", prompt_text=text) + AUDIO_TEXT + prompt.CLONE_SYSTEM_TAIL
    rendered = [1, 4, *encode(f"system\n{system}"), 3, 4, *encode(f"human\n{text}"), 3, 4, *encode("assistant\n")]
    assert list(clone_prompt(released_tokenizer, text, text, TOKENS).ids) == rendered

    instruction = edit_instruction("paralinguistic", text, "", text)
    human = encode(f"human\n{instruction}\n{AUDIO_TEXT}\n")
    rendered = [1, 4, *encode(f"system\n{prompt.EDIT_SYSTEM}"), 3, 4, *human, 3, 4, *encode("assistant\n")]
    assert list(edit_prompt(released_tokenizer, instruction, TOKENS).ids) == rendered


@pytest.mark.parametrize(
    ("mode", "edit_info", "expected"),
    [
        ("emotion", "happy", "Make the following audio more happy. The text corresponding to the audio is: Hi\n"),
        ("speed", "faster", "Make the following audio more faster. The text corresponding to the audio is: Hi\n"),
        (
            "style",
            "whisper",
            "Make the following audio more whisper style. The text corresponding to the audio is: Hi\n",
        ),
        ("emotion", "remove", "Remove any emotion in the following audio and the reference text is: Hi\n"),
        ("style", "remove", "Remove any speaking styles in the following audio and the reference text is: Hi\n"),
        ("denoise", "", prompt.DENOISE),
        ("vad", "", prompt.VAD),
        (
            *("paralinguistic", ""),
            "Add some non-verbal sounds to make the audio more natural, the new text is : [Sigh] {x}\n"
            "  The text corresponding to the audio is: Hi\n",
        ),
    ],
)
def test_edit_instructions(mode, edit_info, expected):
    assert edit_instruction(mode, "  Hi ", edit_info, "[Sigh] {x}") == expected
    assert edit_instruction(mode, "Hi", edit_info, "[Sigh] {x}", 1.0) == expected
    strong = edit_instruction(mode, "Hi", edit_info, "[Sigh] {x}", 3.0)
    if mode in ("denoise", "vad"):
        assert strong == expected
    else:
        assert strong == f"Dramatically {expected[0].lower()}{expected[1:]}"


@pytest.mark.parametrize(
    ("intensity", "word"),
    [
        *[(0.1, "Slightly"), (0.5, "Slightly"), (0.51, "Gently"), (0.99, "Gently"), (1.0, None), (1.01, "Noticeably")],
        *[(2.0, "Noticeably"), (2.01, "Strongly"), (2.39, "Strongly"), (2.4, "Vigorously"), (2.69, "Vigorously")],
        *[(2.7, "Dramatically"), (3.0, "Dramatically"), (2.400000095367432, "Vigorously"), (0.9999999, None)],
    ],
)
def test_intensity_words(intensity, word):
    assert intensity_word(intensity) == word


def test_the_prefix_depends_on_the_voice_alone(demo_tokenizer):
    one = clone_prompt(demo_tokenizer, "One text.", "The voice.", TOKENS)
    other = clone_prompt(demo_tokenizer, "Another, longer text!", "The voice.", TOKENS)
    assert one.ids[: one.prefix_length] == other.ids[: other.prefix_length]
    assert one.ids[one.prefix_length :] != other.ids[other.prefix_length :]
    assert one.prefix_length > len(one.ids) / 2


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()
