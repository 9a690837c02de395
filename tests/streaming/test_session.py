# ruff: noqa: ARG002 - stages take what those of Triton take
"""One streamed request against stages of our own: what comes out, and what is freed however it ends."""

import queue
import threading

import numpy as np
import pytest

from python_backend.errors import Cancelled, InvalidInput, NotFound, RequestError, Unavailable
from python_backend.streaming.session import Session

WAIT = 10
END = {
    "tokens": np.empty(0, dtype=np.int32),
    "finish_reason": np.array([b"stop"], dtype=object),
    "usage": np.array([7, 11], dtype=np.int32),
    "stage_ms": np.array([1, 2], dtype=np.float32),
}


def group(count=1):
    return {"tokens": np.zeros(5 * count, dtype=np.int32)}


class FakeStages:
    """Every frame of mel holds its number, and every sample that of its frame. Tokens are those put in `answers`."""

    def __init__(self, *answers):
        self.answers = queue.SimpleQueue()
        for answer in answers:
            self.answers.put(answer)
        self.voices = self.speaking = self.frames = 0
        self.open_streams = set()
        self.fails = {}
        self.calls = []

    def _note(self, call):
        self.calls.append(call)
        if call in self.fails:
            raise self.fails[call]

    def voice(self):
        self._note("voice")
        return {
            "prompt_tokens": np.zeros(5, dtype=np.int32),
            "stage_ms": np.ones(4, dtype=np.float32),
            "voice_key": np.array([b"key"], dtype=object),
            "cache_hit": np.array([True]),
        }

    def speak(self, prompt_tokens, cancel_id):
        self._note("speak")
        self.speaking += 1
        try:
            while (answer := self.answers.get(timeout=WAIT)) is not None:
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            self.speaking -= 1

    def cancel(self, cancel_id):
        self._note("cancel")
        self.answers.put(Cancelled("the request was cancelled"))

    def open(self, stream_id, voice):
        self.open_streams.add(stream_id)
        self._note("open")
        return 3.0

    def chunk(self, stream_id, chunk, lead):
        self._note("chunk")
        if stream_id not in self.open_streams:
            raise NotFound("stream_id: no stream")
        frames = 6 * chunk.own_groups
        mel = np.tile(np.arange(self.frames, self.frames + frames, dtype=np.float32), (80, 1))
        self.frames += frames
        if chunk.last:
            self.open_streams.remove(stream_id)
        return mel, 2.0

    def close(self, stream_id):
        self._note("close")
        self.open_streams.discard(stream_id)

    def vocode(self, mel, mel_length, noise, cached_source, cached_source_length):
        self._note("vocode")
        waveform = np.repeat(mel[0], 480)
        return waveform, waveform


def session(stages, idle_seconds=WAIT, streams=lambda: 1):
    def start(work):
        threading.Thread(target=work, daemon=True).start()

    return Session(stages, 0, start, streams, idle_seconds)


def all_is_free(stages):
    for _ in range(100):
        if not stages.speaking and not stages.open_streams:
            return True
        threading.Event().wait(0.02)
    return False


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 6, 7, 13, 14, 50])
@pytest.mark.parametrize("together", [False, True])
def test_sound_is_as_long_as_the_tokens_and_in_order(groups, together):
    answers = [group(groups)] if together else [group()] * groups
    stages = FakeStages(*answers, END, None)
    speech = session(stages)
    sound = list(speech.waveforms())
    np.testing.assert_allclose(np.concatenate(sound), np.repeat(np.arange(6 * groups), 480), atol=1e-3)
    assert all(part.size for part in sound)
    speech.close()
    assert speech.account["finish_reason"][0] == b"stop"
    assert speech.account["usage"].tolist() == [7, 11]
    assert speech.account["flow_ms"].tolist() == [3.0, 2.0 * stages.calls.count("chunk")]
    assert speech.account["vocoder_ms"][0] > 0
    assert all_is_free(stages)
    assert "cancel" not in stages.calls
    assert "close" not in stages.calls, "the last chunk has closed the flow's stream"


def test_the_first_sound_waits_for_its_own_tokens_only():
    stages = FakeStages(*[group()] * 6)
    sound = session(stages).waveforms()
    assert next(sound).size == 22 * 480  # 30 frames less the eight held back
    stages.answers.put(END)
    stages.answers.put(None)
    assert sum(part.size for part in sound) == 14 * 480


@pytest.mark.parametrize("stage", ["voice", "speak", "open", "chunk", "vocode"])
def test_whatever_fails_ends_the_stream_with_its_error_and_frees_the_rest(stage):
    stages = FakeStages(*[group()] * 20)
    stages.fails[stage] = InvalidInput(stage, "does not work")
    speech = session(stages)
    with pytest.raises(InvalidInput, match=f"{stage}: does not work"):
        list(speech.waveforms())
    speech.close()
    assert all_is_free(stages)


@pytest.mark.parametrize("came", [0, 3, 20])
def test_an_error_of_the_language_model_ends_the_stream(came):
    stages = FakeStages(*[group()] * came, RequestError("broken"))
    speech = session(stages)
    with pytest.raises(RequestError, match="broken"):
        list(speech.waveforms())
    speech.close()
    assert all_is_free(stages)


def test_a_stream_of_tokens_without_an_end_is_an_error():
    speech = session(FakeStages(*[group()] * 3, None))
    with pytest.raises(RequestError, match="ended early"):
        list(speech.waveforms())


def test_an_end_without_tokens_is_an_error():
    stages = FakeStages(END, None)
    speech = session(stages)
    with pytest.raises(RequestError, match="ended without a token"):
        list(speech.waveforms())
    speech.close()
    assert all_is_free(stages)


def test_no_tokens_for_too_long_is_an_error():
    stages = FakeStages(group())
    speech = session(stages, idle_seconds=0.1)
    with pytest.raises(Unavailable, match=r"no speech token came for 0\.1 s"):
        list(speech.waveforms())
    speech.close()
    assert stages.calls.count("cancel") == 1
    assert all_is_free(stages)


@pytest.mark.parametrize("moment", ["voice", "speak", "open", "chunk", "vocode", "waiting"])
def test_cancelled_at_any_moment(moment):
    stages = FakeStages(*[group()] * 14)
    speech = session(stages)
    note = stages._note

    def cancel_at(call):
        note(call)
        if call == moment:
            stages._note = note
            speech.cancel()

    stages._note = cancel_at
    if moment == "waiting":
        threading.Timer(0.2, speech.cancel).start()
    with pytest.raises(Cancelled):
        list(speech.waveforms())
    speech.close()
    assert all_is_free(stages)


def test_dropped_without_a_word():
    stages = FakeStages(*[group()] * 14)
    speech = session(stages)
    sound = speech.waveforms()
    next(sound)
    sound.close()
    speech.close()
    assert all_is_free(stages)
