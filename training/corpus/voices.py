"""Who speaks and how: twelve voices, each in English and Mandarin, and the manners that edits are trained on."""

from dataclasses import dataclass
from enum import StrEnum


class Language(StrEnum):
    """The two languages of the corpus."""

    english = "en"
    mandarin = "zh"


# espeak-ng reads Chinese characters with a small dictionary only; pinyin it reads without fault.
ESPEAK_VOICE = {Language.english: "en-us", Language.mandarin: "cmn-latn-pinyin"}
WORDS_PER_MINUTE = {Language.english: 160, Language.mandarin: 175}


@dataclass(frozen=True)
class Voice:
    """One speaker.

    Attributes:
        name: how the corpus calls it.
        variant: espeak-ng's voice variant.
        pitch, span: espeak-ng's pitch and pitch range, 0 … 99.
    """

    name: str
    variant: str
    pitch: int
    span: int


VOICES = (
    Voice("adam", "m1", 40, 50),
    Voice("boris", "m3", 25, 45),
    Voice("carl", "m7", 50, 55),
    Voice("daniel", "Andy", 60, 45),
    Voice("eric", "m2", 15, 60),
    Voice("frank", "m8", 45, 65),
    Voice("grace", "f1", 45, 50),
    Voice("helen", "f2", 60, 60),
    Voice("irene", "f3", 75, 50),
    Voice("julia", "f4", 40, 45),
    Voice("karen", "f5", 85, 65),
    Voice("lily", "whisperf", 50, 50),
)
WHISPER = {"m": "whisper", "f": "whisperf"}


@dataclass(frozen=True)
class Manner:
    """A way of speaking, relative to the voice's own.

    Attributes:
        name: `neutral`, or the edit that leads to it.
        rate: factor on the speaking rate.
        pitch, span: added to the voice's.
        whispered: spoken without voice.
    """

    name: str
    rate: float = 1.0
    pitch: int = 0
    span: int = 0
    whispered: bool = False


NEUTRAL = Manner("neutral")
MANNERS = (
    NEUTRAL,
    Manner("faster", rate=1.25),
    Manner("more faster", rate=1.55),
    Manner("slower", rate=0.8),
    Manner("more slower", rate=0.64),
    Manner("whisper", rate=0.95, whispered=True),
    Manner("happy", rate=1.08, pitch=14, span=35),
    Manner("sad", rate=0.84, pitch=-14, span=-35),
    Manner("excited", rate=1.25, pitch=24, span=50),
)
