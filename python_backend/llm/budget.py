"""How much speech a request can sensibly give: a bound on the number of tokens, from its text and its clip.

A model led astray (a wrong transcript, say) talks on until its context is full, so every request gets a bound.
"""

import math
import unicodedata

from python_backend.llm.grammar import GROUP, SECONDS_PER_GROUP

MARGIN = 1.3
PAUSES = 0.6  # seconds of silence around the speech
SHORTEST = 1.0
LONGEST = 3000  # ids, 72 s: the flow takes no more at once
SLOWEST = 2.5  # a clip's pace counts up to this many times slower than usual

_LETTER = 0.08
_IDEOGRAPH = 0.26
_DIGIT = 0.35  # spoken as a word
_OTHER = 0.12


def speech_seconds(text: str) -> float:
    """Estimate how long `text` takes to say at a usual pace, from its characters.

    Ideographs, kana and Hangul count as a syllable each, letters and marks of other scripts as about a twelfth of a
    second, digits as a word, spaces as nothing, all else as a short pause.
    """
    return sum(_character_seconds(character) for character in text)


def _character_seconds(character: str) -> float:
    category = unicodedata.category(character)
    if category[0] in "ZC":
        return 0.0
    if category == "Nd":
        return _DIGIT
    if category[0] in "LM":
        return _IDEOGRAPH if unicodedata.east_asian_width(character) in "WF" else _LETTER
    return _OTHER


def token_budget(mode: str, text: str, prompt_text: str, edit_info: str, clip_tokens: int) -> int:
    """Return the bound on generated ids, a multiple of five and at most `LONGEST`.

    Args:
        text: what to say (clone) or the new text (paralinguistic).
        prompt_text: the words of the clip.
        clip_tokens: audio tokens of the clip.
    """
    if mode == "vad":  # takes silence out: the speech cannot get longer
        return min(clip_tokens, LONGEST)
    clip = clip_tokens / GROUP * SECONDS_PER_GROUP
    usual = speech_seconds(prompt_text)
    if mode in ("clone", "paralinguistic"):
        slowness = min(max(clip / usual, 1.0), SLOWEST) if usual else 1.0
        expected = speech_seconds(text) * slowness
        if mode == "paralinguistic":
            expected = max(expected, clip)
    elif mode == "speed":
        expected = clip if "fast" in edit_info else 1.6 * clip
    elif mode in ("emotion", "style"):
        expected = 1.2 * clip
    else:  # denoise: nothing is added
        expected = clip
    seconds = max(SHORTEST, MARGIN * expected + PAUSES)
    return min(GROUP * math.ceil(round(seconds / SECONDS_PER_GROUP, 6)), LONGEST)
