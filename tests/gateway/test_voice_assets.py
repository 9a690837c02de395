import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gateway.settings import Settings
from gateway.tags import control_token
from gateway.voices import UnknownVoice, VoiceLibrary

FOLDER = Settings().voices_dir


@pytest.fixture
def library() -> VoiceLibrary:
    return VoiceLibrary(FOLDER, "fear_female", {"nova": "happy_en"})


def test_recordings_are_what_a_prompt_should_be(library: VoiceLibrary) -> None:
    for voice in library:
        info = soundfile.info(voice.path)
        assert (info.samplerate, info.channels, info.subtype) == (24_000, 1, "PCM_16")
        assert 3.0 < info.duration < 6.0
        assert 0.55 < np.abs(voice.clip.waveform).max() <= 0.61
        loud = np.abs(voice.clip.waveform) > 0.01
        assert loud[:7200].any()
        assert loud[-7200:].any()
        chinese = voice.locale == "zh-CN"
        pace = len(voice.prompt_text) / info.duration
        assert 3 < pace < 6 if chinese else 12 < pace < 20
        assert not control_token(voice.prompt_text)


def test_recordings_differ_and_stay_small(library: VoiceLibrary) -> None:
    contents = [voice.path.read_bytes() for voice in library]
    assert len(set(contents)) == 4
    assert sum(map(len, contents)) < 1_000_000


def test_names_stand_for_voices(library: VoiceLibrary) -> None:
    assert library.find("nova").id == "happy_en"
    assert library.find(None).id == "fear_female"
    with pytest.raises(UnknownVoice, match="fear_female, happy_en"):
        library.find("nobody")


@pytest.mark.parametrize(("default", "aliases"), [("nobody", {}), ("happy_en", {"nova": "nobody"})])
def test_names_that_lead_nowhere_are_found_at_start(default: str, aliases: dict[str, str]) -> None:
    with pytest.raises(UnknownVoice):
        VoiceLibrary(FOLDER, default, aliases)


def test_the_package_carries_its_recordings() -> None:
    assert FOLDER.parent.parent == Path(__import__("gateway").__file__).parent
    assert soundfile.info(io.BytesIO((FOLDER / "happy_en.wav").read_bytes())).frames > 0
