import asyncio
import re

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import ModelFailed
from client.speech import Clip, SpeechJob, SpeechResult, derived_seed
from gateway.app import create_app
from gateway.pieces import Piece, speaking_seconds, split, with_pause
from gateway.settings import Settings
from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.helpers import SPEECH, assert_error, wav_seconds

ENGLISH = "First one. Second costs 3.50 dollars, truly! Is this the third?"
LETTERS = st.text(st.sampled_from("ab好吗 。，.!?\n[]3:…"), max_size=300)


def texts(text: str, seconds: float) -> list[str]:
    return [piece.text for piece in split(text, seconds)]


def test_a_short_text_stays_as_it_is() -> None:
    assert split(" Hello.  There. ", 20.0) == [Piece(" Hello.  There. ", 0.0)]


def test_cuts_lie_between_sentences_not_in_numbers() -> None:
    assert texts(ENGLISH, 2.5) == ["First one.", "Second costs 3.50 dollars, truly!", "Is this the third?"]
    assert texts("今天天气很好。我们出去玩吧！你说呢？", 2.0) == ["今天天气很好。", "我们出去玩吧！", "你说呢？"]


def test_long_sentences_are_cut_between_clauses_then_words() -> None:
    assert texts("今天天气很好，我们出去玩吧", 2.0) == ["今天天气很好，", "我们出去玩吧"]
    assert texts("one two three four five six", 1.0) == ["one two three", "four five six"]


def test_pauses_follow_the_cut() -> None:
    cut = split("第一句话在这里。第二句话也在这里，还有半句在这里\n新的一段话在这里", 2.5)
    assert [piece.pause for piece in cut] == [0.3, 0.15, 0.6, 0.0]


def test_quotes_stay_with_their_sentence() -> None:
    assert texts("他说：“我们走吧。”然后他就走了。", 2.5)[-1] == "然后他就走了。"


def test_tags_are_not_cut_and_a_dialect_goes_everywhere() -> None:
    cut = texts("[Cantonese]今晚食咩好呢？我哋去飲茶啦。", 2.0)
    assert cut == ["[Cantonese]今晚食咩好呢？", "[Cantonese]我哋去飲茶啦。"]
    assert any("[Surprise oh. no]" in piece for piece in texts("Hm well then. [Surprise oh. no] And so it goes.", 1.5))


@given(LETTERS, st.floats(0.5, 10.0))
def test_nothing_is_lost_and_nothing_is_too_long(text: str, seconds: float) -> None:
    pieces = split(text, seconds)
    assert re.sub(r"\s", "", "".join(piece.text for piece in pieces)) == re.sub(r"\s", "", text)
    if len(pieces) > 1:
        assert all(piece.text.strip() for piece in pieces)
        assert all(speaking_seconds(piece.text) <= seconds for piece in pieces)
        assert pieces[-1].pause == 0.0


def test_speech_gets_its_pause() -> None:
    spoken = with_pause(Clip(np.full(100, 0.1, np.float32), 1000), 0.05)
    np.testing.assert_array_equal(spoken.waveform, np.repeat(np.float32([0.1, 0]), [100, 50]))


@pytest.mark.anyio
async def test_a_long_text_is_spoken_in_pieces_of_one_voice(backend: FakeBackend) -> None:
    settings = Settings(piece_seconds=2.5, pieces_at_once=2, decode_processes=0)
    transport = httpx.ASGITransport(create_app(settings, backend))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        answer = await http.post(SPEECH, json={"input": ENGLISH, "step_audio": {"seed": 5}})
    assert [job.text for job in backend.jobs] == texts(ENGLISH, 2.5)
    assert [job.sampling.seed for job in backend.jobs] == [5, derived_seed(5, 1), derived_seed(5, 2)]
    assert len({id(job.clip) for job in backend.jobs}) == 1
    assert wav_seconds(answer.content) == pytest.approx(3 * SECONDS + 0.6)
    assert "prepare;dur=3.0" in answer.headers["server-timing"]


@pytest.mark.anyio
async def test_one_failing_piece_stops_the_others() -> None:
    class Failing(FakeBackend):
        async def synthesize(self, job: SpeechJob) -> SpeechResult:
            if "First" in job.text:
                await asyncio.sleep(0.05)
                raise ModelFailed("broke")
            return await super().synthesize(job)

    backend = Failing(delay=10.0)
    settings = Settings(piece_seconds=2.5, decode_processes=0)
    transport = httpx.ASGITransport(create_app(settings, backend), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        assert "broke" in assert_error(await http.post(SPEECH, json={"input": ENGLISH}), 500, None)
    assert backend.cancelled == 2
