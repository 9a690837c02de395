import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.load.playback import Playback


def heard(*parts: tuple[float, float]) -> Playback:
    playback = Playback()
    for at, seconds in parts:
        playback.take(at, seconds)
    return playback


def test_sound_that_comes_in_time_is_heard_without_a_stall() -> None:
    playback = heard((0.4, 0.5), (0.8, 1.0), (1.9, 2.0))
    assert (playback.first_at, playback.seconds, playback.stall) == (0.4, 3.5, 0.0)


def test_each_late_part_stops_playback_until_it_comes() -> None:
    # Playing from 1.0 to 1.5; silent until 1.7; to 2.2; silent until 2.3.
    assert heard((1.0, 0.5), (1.7, 0.5), (2.3, 0.5)).stall == pytest.approx(0.3)


def test_a_stall_moves_what_follows() -> None:
    # The second part plays from 2.0 to 3.0, so a third one at 2.9 is in time although the sound before it has 2 s.
    assert heard((0.0, 1.0), (2.0, 1.0), (2.9, 1.0)).stall == pytest.approx(1.0)


def test_parts_without_sound_count_for_nothing() -> None:
    playback = heard((0.1, 0.0), (0.5, 0.2), (9.0, 0.0))
    assert (playback.first_at, playback.stall) == (0.5, 0.0)
    assert heard().first_at is None


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 2)), min_size=1, max_size=20))
def test_it_equals_a_player_that_is_simulated(parts: list[tuple[float, float]]) -> None:
    now = silence = 0.0
    playing_until = None
    playback = Playback()
    for gap, seconds in parts:
        now += gap
        playback.take(now, seconds)
        if playing_until is not None and now > playing_until:
            silence += now - playing_until
        playing_until = max(playing_until or now, now) + seconds
    assert playback.stall == pytest.approx(silence, abs=1e-9)
