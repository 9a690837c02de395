import base64
from contextlib import suppress
from urllib.parse import unquote

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio import UnusableAudio, decode, from_base64
from gateway.errors import ApiError
from gateway.headers import field_value, metadata_headers
from gateway.stretch import parse_rate
from gateway.tags import EMOTION, SPEED, STYLE, control_token, match_tag
from tests.gateway.helpers import tone_wav

_WHOLE_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.binary())
def test_base64_in_every_spelling(data: bytes) -> None:
    plain = base64.b64encode(data).decode()
    url_safe = base64.urlsafe_b64encode(data).decode().rstrip("=")
    for text in (plain, url_safe, base64.encodebytes(data).decode(), f"data:audio/wav;base64,{plain}"):
        assert from_base64(text) == data


@given(_WHOLE_TEXT)
def test_any_text_is_base64_or_refused(text: str) -> None:
    with suppress(UnusableAudio):
        assert isinstance(from_base64(text), bytes)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_clip_or_refused(data: bytes) -> None:
    with suppress(UnusableAudio):
        assert decode(data, 1.0).seconds <= 1.0


@given(st.data())
def test_a_damaged_wav_is_a_clip_or_refused(data: st.DataObject) -> None:
    wav = bytearray(tone_wav(seconds=0.1))
    for _ in range(data.draw(st.integers(1, 8))):
        wav[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    with suppress(UnusableAudio):
        clip = decode(bytes(wav), 1.0)
        assert 16_000 <= clip.sample_rate <= 192_000
        assert clip.seconds <= 1.0


@given(st.dictionaries(_WHOLE_TEXT.filter(bool), _WHOLE_TEXT, max_size=4))
def test_metadata_always_makes_headers_http_can_carry(metadata: dict[str, str]) -> None:
    headers = metadata_headers(metadata)
    raw = [(key.encode("ascii"), value.encode("latin-1")) for key, value in headers.items()]
    h11.Response(status_code=200, headers=raw)
    assert {unquote(key.removeprefix("x-metadata-")) for key in headers} == set(metadata)
    assert len(headers) == len(metadata)


@given(_WHOLE_TEXT)
def test_values_beyond_latin_1_survive(value: str) -> None:
    written = field_value(value)
    assert value in (written, unquote(written))


def test_metadata_is_bounded() -> None:
    with pytest.raises(ApiError):
        metadata_headers({"a": "x" * 9000})


@pytest.mark.parametrize(
    ("wording", "rate"),
    [
        ("0.8", 0.8),
        ("0.8x", 0.8),
        ("80%", 0.8),
        (" 1.5 X ", 1.5),
        ("2", 2.0),
        ("faster", None),
        ("-1", None),
        ("x", None),
    ],
)
def test_rates(wording: str, rate: float | None) -> None:
    assert parse_rate(wording) == rate


@given(_WHOLE_TEXT)
def test_any_wording_is_a_rate_or_none(wording: str) -> None:
    rate = parse_rate(wording)
    assert rate is None or rate >= 0.0


@given(st.sampled_from([("emotion", EMOTION), ("style", STYLE), ("speed", SPEED)]), st.data())
def test_tags_match_however_they_are_spelt(lists: tuple[str, tuple[str, ...]], data: st.DataObject) -> None:
    mode, tags = lists
    tag = data.draw(st.sampled_from(tags))
    joint = data.draw(st.sampled_from([" ", "_", "-", "  "]))
    wording = joint.join(tag.replace("_", " ").split())
    wording = data.draw(st.sampled_from([wording, wording.upper(), wording.title(), f" {wording} "]))
    assert match_tag(mode, wording) == (tag, True)


@pytest.mark.parametrize(
    ("mode", "wording", "tag"),
    [("emotion", "Fearful", "fear"), ("emotion", "humor", "humour"), ("emotion", "Happiness", "happy")],
)
def test_other_words_for_a_tag(mode: str, wording: str, tag: str) -> None:
    assert match_tag(mode, wording) == (tag, True)


def test_unlisted_tags_stay_as_they_are() -> None:
    assert match_tag("style", " Formal ") == ("Formal", False)


@pytest.mark.parametrize("text", ["<|EOT|>", "a<audio_12>b", "<|BOT|> human", "<audio_start>", "<|TTS|>"])
def test_control_tokens_are_seen(text: str) -> None:
    assert control_token(text) in text  # type: ignore[operator]


@pytest.mark.parametrize("text", ["[Laughter] guo4", "a < b | c > d", "<audio>", "<|>", "[Cantonese]今晚"])
def test_ordinary_text_holds_none(text: str) -> None:
    assert control_token(text) is None
