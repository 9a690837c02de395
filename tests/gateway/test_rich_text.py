"""Text with signs, against what FunASR makes of SenseVoice's tags."""

import json
import re
from pathlib import Path

import pytest

from gateway.rich_text import RichText, rich_text
from gateway.subtitles import srt, vtt
from tests.gateway.fake_recognizer import segment

GOLDEN = json.loads((Path(__file__).resolve().parent.parent / "golden/sense_voice/texts.json").read_text("utf-8"))[
    "rich"
]
PIECE = re.compile(r"<\|(\w+)\|><\|(\w+)\|>(?:<\|(\w+)\|><\|(\w+)\|>)?([^<]*)")
EMOTIONS = {"happy", "sad", "angry", "neutral", "fearful", "disgusted", "surprised"}


def segments(raw):
    """Read a raw transcript as the recogniser would tell it: a piece without words has no segment."""
    for language, emotion, event, _, words in PIECE.findall(raw):
        emotion, event = emotion.lower(), event.lower()
        if words:
            yield segment(
                words,
                language=language,
                emotion=emotion if emotion in EMOTIONS else "",
                events=() if event == "speech" else (event,),
            )


@pytest.mark.parametrize("raw", [raw for raw in GOLDEN if raw != "<|nospeech|><|Event_UNK|>"])
def test_signs_are_those_of_funasr(raw):
    assert rich_text(segments(raw)) == GOLDEN[raw]


def test_parts_join_to_the_whole():
    spoken = [
        segment(" A.", emotion="sad"),
        segment(" B.", emotion="happy", events=("bgm",)),
        segment(" C.", events=()),
    ]
    text = RichText()
    parts = [text.add(part) for part in spoken]
    assert ("".join(parts) + text.close()).strip() == rich_text(spoken) == "A.😔🎼B.😊 C."


def test_subtitles_beyond_an_hour_and_with_markup():
    late = [segment(" <i> & \n more", 3725.0004, 3726.9996)]
    assert srt(late) == "1\n01:02:05,000 --> 01:02:07,000\n<i> & more\n\n"
    assert vtt(late) == "WEBVTT\n\n01:02:05.000 --> 01:02:07.000\n&lt;i&gt; &amp; more\n\n"
