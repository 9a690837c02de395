import base64
import json
from contextlib import suppress
from urllib.parse import unquote

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio import UnusableAudio, decode, from_base64
from gateway.auth import BearerAuth
from gateway.errors import (
    ApiError,
    InvalidJson,
    InvalidKey,
    InvalidValue,
    MissingKey,
    MissingParameter,
    envelope,
    response,
)
from gateway.headers import field_value, metadata_headers, server_timing
from gateway.permits import Permits
from gateway.routers.speech import parse_payload
from gateway.schemas import SpeechRequest
from gateway.settings import Settings
from gateway.stretch import parse_rate
from gateway.tags import EMOTION, SPEED, STYLE, control_token, match_tag, named_manner
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


@given(st.text(max_size=80), st.sampled_from([*EMOTION[:-1], "act coy", "act-coy"]), st.text(max_size=80))
def test_a_named_manner_is_a_listed_one(before: str, tag: str, after: str) -> None:
    manner = named_manner(f"{before} {tag} {after}")
    assert manner is not None
    assert manner[1] in {"emotion": EMOTION, "style": STYLE}[manner[0]]
    assert manner[1] != "remove"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys([*SpeechRequest.model_fields, "unknown"], _JSON)
    | {"step_audio": st.dictionaries(st.sampled_from(["mode", "seed", "intensity", "edit_info"]), _JSON) | _JSON},
)


@given(_FIELDS.map(json.dumps) | _JSON.map(json.dumps) | st.text(max_size=60))
def test_any_payload_is_a_request_or_refused(payload: str) -> None:
    with suppress(InvalidJson, InvalidValue, MissingParameter):
        request = parse_payload(payload)
        assert 0.1 <= request.options.intensity <= 3.0
        assert 0.25 <= request.speed <= 4.0


@given(st.text())
def test_any_message_fits_an_envelope(text: str) -> None:
    error = InvalidValue(text, param=text)
    assert json.loads(response(error).body)["detail"] == envelope(error)["error"]["message"]


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_any_header_is_a_key_or_none(header: str) -> None:
    refusal = BearerAuth(lambda *_: None, ["right"]).refusal(header)
    assert isinstance(refusal, MissingKey | InvalidKey) or header.split() == [header.split()[0], "right"]


@given(st.text(max_size=60))
def test_lists_in_settings_have_no_empty_entries(text: str) -> None:
    assert all(entry == entry.strip() != "" for entry in Settings(url_allow=text).url_allow)  # type: ignore[arg-type]


@given(st.dictionaries(st.sampled_from(["queue", "read", "flow_solver"]), st.floats(0, 1e9)))
def test_timings_are_a_header(stage_ms: dict[str, float]) -> None:
    value = server_timing(stage_ms)
    h11.Response(status_code=200, headers=[(b"server-timing", value.encode("ascii"))])
    assert value.count(";dur=") == len(stage_ms)


@given(st.integers(1, 64), st.integers(0, 500), st.floats(0, 1e4))
def test_retry_after_is_a_whole_second_or_more(concurrent: int, waiting: int, typical: float) -> None:
    permits = Permits(concurrent, waiting=500)
    permits.waiting, permits._typical_seconds = waiting, typical
    wait = permits.expected_wait()
    assert isinstance(wait, int)
    assert wait >= 1
    assert wait >= typical * waiting / concurrent


@pytest.mark.parametrize("text", ["<|EOT|>", "a<audio_12>b", "<|BOT|> human", "<audio_start>", "<|TTS|>"])
def test_control_tokens_are_seen(text: str) -> None:
    assert control_token(text) in text  # type: ignore[operator]


@pytest.mark.parametrize("text", ["[Laughter] guo4", "a < b | c > d", "<audio>", "<|>", "[Cantonese]今晚"])
def test_ordinary_text_holds_none(text: str) -> None:
    assert control_token(text) is None
