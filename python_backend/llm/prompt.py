"""From a request to the ids the model was trained to continue.

Two forms exist. `2026` (the default) renders one chat template; `2025` encodes the pieces one by one, each with a
leading `<s>` as the tokenizer of that release does. The strings are interface constants of the checkpoint
(https://github.com/stepfun-ai/Step-Audio-EditX, Apache-2.0) and must stay byte for byte.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from python_backend.llm.tokenizer import Tokenizer

CLONE_SYSTEM_HEAD = (
    "Generate audio with the following timbre, prosody and speaking style\n\n[speaker_start]\n"
    "speaker name: {speaker}\nspeaker prompt text: \n{prompt_text}\nspeaker audio tokens: \n"
)
CLONE_SYSTEM_TAIL = "\n[speaker_end]\n"
EDIT_SYSTEM = (
    "As a highly skilled audio editing and tuning specialist, you excel in interpreting user instructions and applying "
    "precise adjustments to meet their needs. Your expertise spans a wide range of enhancement capabilities, including "
    "but not limited to:\n# Emotional Enhancement\n# Speaking Style Transfer\n# Non-linguistic Adjustments\n"
    "# Audio Tuning & Editing\nNote: You will receive instructions in natural language and are expected to accurately "
    "interpret and execute the most suitable audio edits and enhancements.\n"
)
REMOVE_EMOTION = "Remove any emotion in the following audio and the reference text is: {audio_text}\n"
REMOVE_STYLE = "Remove any speaking styles in the following audio and the reference text is: {audio_text}\n"
MORE = "Make the following audio more {edit_info}. The text corresponding to the audio is: {audio_text}\n"
MORE_STYLE = "Make the following audio more {edit_info} style. The text corresponding to the audio is: {audio_text}\n"
PARALINGUISTIC = (
    "Add some non-verbal sounds to make the audio more natural, the new text is : {text}\n"
    "  The text corresponding to the audio is: {audio_text}\n"
)
DENOISE = (
    "Remove any noise from the given audio while preserving the voice content clearly. Ensure that the speech quality "
    "remains intact with minimal distortion, and eliminate all noise from the audio.\n"
)
VAD = (
    "Remove any silent portions from the given audio while preserving the voice content clearly. Ensure that the "
    "speech quality remains intact with minimal distortion, and eliminate all silence from the audio.\n"
)
SPEAKER = "debug"  # the name the 2026 form gives every speaker


class PromptForm(StrEnum):
    """Which release's prompt encoding to use."""

    y2026 = "2026"
    y2025 = "2025"


@dataclass(frozen=True)
class Prompt:
    """What the model reads.

    Args:
        ids: the whole prompt.
        prefix_length: the first so many ids come before the user's text: they depend on the mode and the voice alone.
    """

    ids: tuple[int, ...]
    prefix_length: int


def intensity_word(intensity: float) -> str | None:
    """Return the adverb for a strength of 0.1 … 3.0; 1.0 has none. The model was not trained on these words."""
    strength = round(intensity, 3)  # tensors carry float32
    if strength == 1.0:
        return None
    for limit, word in ((0.5, "Slightly"), (1.0, "Gently"), (2.0, "Noticeably")):
        if strength <= limit:
            return word
    if strength < 2.4:
        return "Strongly"
    return "Vigorously" if strength < 2.7 else "Dramatically"


def edit_instruction(mode: str, audio_text: str, edit_info: str, text: str, intensity: float = 1.0) -> str:
    """Return the instruction of an edit; at intensity 1.0 it is the one of Step-Audio-EditX, byte for byte.

    Raises:
        KeyError: `mode` is no edit.
    """
    remove = edit_info == "remove"
    template = {
        "emotion": REMOVE_EMOTION if remove else MORE,
        "speed": REMOVE_EMOTION if remove else MORE,
        "style": REMOVE_STYLE if remove else MORE_STYLE,
        "paralinguistic": PARALINGUISTIC,
        "denoise": DENOISE,
        "vad": VAD,
    }[mode]
    instruction = template.format(audio_text=audio_text.strip(), edit_info=edit_info, text=text)
    word = None if mode in ("denoise", "vad") else intensity_word(intensity)
    return f"{word} {instruction[0].lower()}{instruction[1:]}" if word else instruction


def clone_prompt(
    tokenizer: Tokenizer,
    text: str,
    prompt_text: str,
    prompt_tokens: Sequence[int],
    form: PromptForm = PromptForm.y2026,
    speaker: str | None = None,
) -> Prompt:
    """Return the prompt that speaks `text` in the voice of a clip.

    Args:
        prompt_text: the words of the clip.
        prompt_tokens: the clip's audio tokens, value space.
        speaker: the name in the prompt; by default `debug` (2026) or one derived from the voice (2025, where the
            original derives it from the samples, which are not at hand here).
    """
    if speaker is None:
        speaker = SPEAKER if form is PromptForm.y2026 else _speaker_name(prompt_text, prompt_tokens)
    head = CLONE_SYSTEM_HEAD.format(speaker=speaker, prompt_text=prompt_text)
    system = [
        *tokenizer.encode("system\n" + head),
        *tokenizer.audio_ids(list(prompt_tokens)),
        *tokenizer.encode(CLONE_SYSTEM_TAIL, word_start=False),
    ]
    return _chat(tokenizer, system, tokenizer.encode(text, word_start=False), form)


def edit_prompt(
    tokenizer: Tokenizer, instruction: str, prompt_tokens: Sequence[int], form: PromptForm = PromptForm.y2026
) -> Prompt:
    """Return the prompt that applies `instruction` to a clip given by its audio tokens (value space)."""
    system = tokenizer.encode("system\n" + EDIT_SYSTEM)
    piecewise = form is PromptForm.y2025
    human = [
        *([tokenizer.bos] if piecewise else []),
        *tokenizer.encode(instruction + "\n", word_start=piecewise),
        *tokenizer.audio_ids(list(prompt_tokens)),
        *tokenizer.encode("\n", word_start=False),
    ]
    return _chat(tokenizer, system, human, form)


def _chat(tokenizer: Tokenizer, system: list[int], human: list[int], form: PromptForm) -> Prompt:
    start = [tokenizer.bos] if form is PromptForm.y2025 else []
    prefix = [
        *(tokenizer.bos, tokenizer.bot, *start, *system, tokenizer.eot),
        *(tokenizer.bot, *start, *tokenizer.encode("human\n")),
    ]
    tail = [tokenizer.eot, tokenizer.bot, *start, *tokenizer.encode("assistant\n")]
    return Prompt((*prefix, *human, *tail), len(prefix))


def _speaker_name(prompt_text: str, prompt_tokens: Sequence[int]) -> str:
    voice = prompt_text.encode() + b"".join(token.to_bytes(2, "little") for token in prompt_tokens)
    return f"clone_{hashlib.sha256(voice).hexdigest()[:16]}"
