import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise
from types import TracebackType
from typing import Self

import pytest

from client.load.report import Outcome, summarise, table
from client.load.run import closed_loop, open_loop
from client.load.targets import Failed
from client.load.workload import Utterance, one_of_each_voice, texts, utterances
from gateway.voices import VoiceLibrary


class Singer:
    """Two parts of 0.1 s, the second one late by the seconds that the text names."""

    def __init__(self, failing: int = -1) -> None:
        self.failing = failing
        self.active = self.most = 0

    async def speak(self, utterance: Utterance) -> AsyncGenerator[float, None]:
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await asyncio.sleep(0.05)
            if utterance.seed == self.failing:
                raise Failed("HTTP 429")
            yield 0.1
            await asyncio.sleep(0.1)
            yield 0.1
        finally:
            self.active -= 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def test_a_closed_loop_keeps_its_number_of_requests_under_way() -> None:
    singer, told = Singer(failing=3), []
    outcomes = asyncio.run(closed_loop(singer, utterances(12), 4, told.append))
    assert (singer.most, len(outcomes), len(told)) == (4, 12, 12)
    report = summarise(outcomes)
    assert (report.requests, report.errors) == (12, {"HTTP 429": 1})
    assert 0.04 < report.first_audio[0] < 0.15
    assert 0.4 < report.seconds < 1.0


def test_an_open_loop_sends_whatever_the_answers_do() -> None:
    singer = Singer()
    outcomes = asyncio.run(open_loop(singer, utterances(60), 100.0, lambda _: None, seed=1))
    due = [outcome.due for outcome in outcomes]
    assert due == sorted(due)
    assert due[-1] == pytest.approx(0.6, abs=0.25)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert max(gaps) > 3 * (sum(gaps) / len(gaps)), "random moments, not regular ones"
    assert singer.most > 4
    again = asyncio.run(open_loop(Singer(), utterances(60), 100.0, lambda _: None, seed=1))
    assert [outcome.due for outcome in again] == due


def test_waiting_to_be_sent_counts_in_an_open_loop() -> None:
    report = summarise([Outcome(1.0, 3.0, 5.0, 2.0, 0.0)])
    assert report.first_audio == (2.0, 2.0, 2.0)
    assert report.real_time_factor == 2.0


def test_continuity_is_the_share_of_requests_that_stalled_no_longer() -> None:
    stalls = (0.0, 0.05, 0.0501, 0.1, 0.15, 0.2, 0.3, 1.0)
    outcomes = [Outcome(0.0, 1.0, 2.0, 4.0, stall) for stall in stalls]
    report = summarise([*outcomes, Outcome(0.0, None, 2.0, 0.0, 0.0), Outcome(0.0, 1.0, 2.0, 1.0, 9.0, "broke")])
    assert report.continuity == (2 / 8, 4 / 8, 6 / 8)
    assert report.errors == {"silence": 1, "broke": 1}
    assert report.throughput == 16.0
    assert len(table([("closed 8", report)], "x").rows) == 1


def test_a_run_where_nothing_is_served_has_a_report_too() -> None:
    report = summarise([Outcome(0.0, None, 1.0, 0.0, 0.0, "HTTP 503")])
    assert report.first_audio[0] != report.first_audio[0]  # NaN
    assert report.throughput == 0.0


def test_the_texts_are_chinese_and_english_for_voices_that_exist() -> None:
    voices = {voice.id for voice in VoiceLibrary()}
    assert {voice for voice, _ in texts()} == voices
    chinese = [text for _, text in texts() if any("\u4e00" <= letter <= "\u9fff" for letter in text)]
    assert 5 <= len(chinese) <= len(texts()) - 5
    assert [one.voice for one in one_of_each_voice()] == sorted(voices)


def test_the_workload_is_the_same_in_every_run() -> None:
    first = utterances(40, max_tokens=50)
    assert first == utterances(40, max_tokens=50)
    assert len({one.seed for one in first}) == 40
    assert first[0].text == first[len(texts())].text
