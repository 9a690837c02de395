"""The emotions, styles and speeds the model was trained on, and how people spell them.

The lists are those of Step-Audio-EditX (`config/edit_config.py` and README, Apache-2.0, StepFun).
"""

import re

from client.speech import Mode

EMOTION = (
    "happy", "angry", "sad", "humour", "confusion", "disgusted", "empathy", "embarrass", "fear", "surprised", "excited",
    "depressed", "coldness", "admiration", "remove",
)  # fmt: skip
STYLE = (
    "serious", "arrogant", "child", "older", "girl", "pure", "sister", "sweet", "ethereal", "whisper", "gentle",
    "recite", "generous", "act_coy", "warm", "shy", "comfort", "authority", "chat", "radio", "soulful", "story",
    "vivid", "program", "news", "advertising", "roar", "murmur", "shout", "deeply", "loudly", "remove", "exaggerated",
)  # fmt: skip
SPEED = ("faster", "slower", "more faster", "more slower")
PARALINGUISTIC = (
    "Breathing", "Laughter", "Surprise-oh", "Confirmation-en", "Uhm", "Surprise-ah", "Surprise-wa", "Sigh",
    "Question-ei", "Dissatisfaction-hnn",
)  # fmt: skip
# What its second generation (2026) was trained on. Text reaches a model untouched, so each works where it is known.
PARALINGUISTIC_2026 = (
    "sigh", "inhale", "laugh", "chuckle", "exhale", "clears throat", "snort", "giggle", "cough", "breath", "uhm",
    "Confirmation-en", "Surprise-oh", "Surprise-ah", "Surprise-wa", "Surprise-yo", "Dissatisfaction-hnn", "Question-ei",
    "Question-ah", "Question-en", "Question-yi", "Question-oh",
)  # fmt: skip
DIALECT = ("Sichuanese", "Cantonese", "Japanese", "Korean")

TAGS: dict[str, tuple[str, ...]] = {
    "clone": (),
    "emotion": EMOTION,
    "style": STYLE,
    "speed": SPEED,
    "paralinguistic": PARALINGUISTIC,
    "paralinguistic_2026": PARALINGUISTIC_2026,
    "denoise": (),
    "vad": (),
    "dialect": DIALECT,
}

_ALIASES = {
    "emotion": {
        "happiness": "happy", "joy": "happy", "anger": "angry", "sadness": "sad", "humor": "humour",
        "humorous": "humour", "confused": "confusion", "disgust": "disgusted", "empathetic": "empathy",
        "embarrassed": "embarrass", "embarrassment": "embarrass", "fearful": "fear", "scared": "fear",
        "surprise": "surprised", "excitement": "excited", "depression": "depressed", "cold": "coldness",
        "admiring": "admiration",
    },
    "style": {
        "childlike": "child", "elderly": "older", "whispering": "whisper", "coy": "act_coy", "storytelling": "story",
        "exaggeration": "exaggerated",
    },
    "speed": {"fast": "faster", "slow": "slower", "much_faster": "more faster", "much_slower": "more slower"},
}  # fmt: skip

# Pieces of the model's vocabulary that steer it; in a text they would not be words but commands.
_CONTROL = re.compile(r"<\|[^\s<>|]{1,32}\|>|<audio_(?:\d{1,6}|start|end)>|<text_(?:start|end)>")


def _plain(tag: str) -> str:
    return re.sub(r"[\s_-]+", "_", tag.strip()).lower()


_SPELLINGS: dict[str, dict[str, str]] = {
    mode: {**{_plain(tag): tag for tag in TAGS[mode]}, **_ALIASES[mode]} for mode in ("emotion", "style", "speed")
}


def match_tag(mode: str, wording: str) -> tuple[str, bool]:
    """Return the model's tag for `wording` and True, or `wording` trimmed and False where no tag fits.

    Case does not matter, and spaces, hyphens and underscores are one.
    """
    tag = _SPELLINGS[mode].get(_plain(wording))
    return (wording.strip(), False) if tag is None else (tag, True)


def named_manner(instructions: str) -> tuple[Mode, str] | None:
    """Return the first emotion or style that free wording names, as edit mode and tag."""
    words = re.findall(r"[a-z]+(?:_[a-z]+)*", re.sub(r"act[\s-]+coy", "act_coy", instructions.lower()))
    manners: tuple[Mode, ...] = ("emotion", "style")
    for word in words:
        for mode in manners:
            tag = _SPELLINGS[mode].get(word)
            if tag and tag != "remove":
                return mode, tag
    return None


def control_token(text: str) -> str | None:
    """Return the first control or audio token written out in `text`, if any."""
    found = _CONTROL.search(text)
    return found[0] if found else None
