import base64
import io

import httpx
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from client.speech import Clip, Mode, SpeechJob
from gateway.app import create_app
from gateway.long_edits import Indivisible, divide
from gateway.settings import Settings
from tests.gateway.conftest import SECONDS, FakeBackend
from tests.gateway.fake_recognizer import FakeRecognizer
from tests.gateway.helpers import SPEECH, assert_error, wav_seconds

RATE = 16_000
SENTENCES = [f"This is sentence number {number}, which goes on for a while." for number in range(12)]
CHINESE = [f"这是第{number}句话，它还要再说一会儿才会结束。" for number in range(12)]
SENTENCE_SECONDS = 5.0


def recording(sentences: int = 12, pause: float = 0.5) -> Clip:
    """Each sentence sounds for 5 s, then there is a pause."""
    chance = np.random.default_rng(0)
    sounds = [chance.uniform(-0.5, 0.5, round(SENTENCE_SECONDS * RATE)) for _ in range(sentences)]
    return Clip(
        np.concatenate([np.append(sound, np.zeros(round(pause * RATE))) for sound in sounds]).astype("f4"), RATE
    )


def edit(mode: Mode, transcript: str, text: str = "", clip: Clip | None = None) -> SpeechJob:
    return SpeechJob(mode, clip or recording(), transcript, text, "happy")


def test_a_short_recording_stays_whole() -> None:
    job = edit("emotion", "words", clip=recording(5))
    assert divide(job, 30.0) == [(job, 0.0)]


@pytest.mark.parametrize(("sentences", "joint"), [(SENTENCES, " "), (CHINESE, "")])
def test_parts_have_the_sentences_spoken_in_them(sentences: list[str], joint: str) -> None:
    transcript = joint.join(sentences)
    parts = divide(edit("style", transcript), 30.0)
    assert [part.clip.seconds / (SENTENCE_SECONDS + 0.5) for part, _ in parts] == pytest.approx([4, 4, 4], abs=0.1)
    assert [part.prompt_text for part, _ in parts] == [joint.join(sentences[at : at + 4]) for at in (0, 4, 8)]
    assert [pause for _, pause in parts] == [0.3, 0.3, 0.0]
    for part, _ in parts[:-1]:
        assert not part.clip.waveform[-RATE // 20 :].any(), "cut in the pause"


def test_pauses_do_not_mislead_the_clock() -> None:
    silence = np.zeros(20 * RATE, np.float32)
    late = Clip(np.concatenate([silence, recording(8).waveform]), RATE)
    parts = divide(edit("emotion", " ".join(SENTENCES[:8]), clip=late), 30.0)
    spoken = np.cumsum([len(part.prompt_text) for part, _ in parts]) / len(" ".join(SENTENCES[:8]))
    ends = np.cumsum([part.clip.seconds for part, _ in parts])
    np.testing.assert_allclose(spoken, (ends - 20) / (ends[-1] - 20), atol=0.05)


def test_a_new_text_is_cut_where_its_transcript_is() -> None:
    tagged = [
        f"{sentence[:-1]} [Laughter]." if at % 2 else f"[Sigh] {sentence}" for at, sentence in enumerate(SENTENCES)
    ]
    parts = divide(edit("paralinguistic", " ".join(SENTENCES), " ".join(tagged)), 30.0)
    assert [part.text for part, _ in parts] == [" ".join(tagged[at : at + 4]) for at in (0, 4, 8)]


def test_too_few_words_are_refused() -> None:
    for transcript in ("Word.", "", "one two"):
        with pytest.raises(Indivisible):
            divide(edit("emotion", transcript), 30.0)


@given(
    st.lists(
        st.sampled_from(["one ", "two, ", "three. ", "四五六", "七。", "\n", "[Sigh] "]), min_size=20, max_size=80
    ),
    st.floats(31, 100),
    st.sampled_from([5.0, 10.0, 30.0]),
)
def test_nothing_is_lost(words: list[str], seconds: float, longest: float) -> None:
    text = "".join(words)
    sound = np.random.default_rng(1).uniform(-1, 1, round(seconds * 2000)).astype(np.float32)
    try:
        parts = divide(edit("paralinguistic", text, text, Clip(sound, 2000)), longest)
    except Indivisible:
        return
    np.testing.assert_array_equal(np.concatenate([part.clip.waveform for part, _ in parts]), sound)
    assert all(0 < part.clip.seconds <= longest + 1e-3 for part, _ in parts)
    for pieces in ([part.prompt_text for part, _ in parts], [part.text for part, _ in parts]):
        assert "".join("".join(pieces).split()) == "".join(text.split())
        assert all(piece.count("[") == piece.count("]") for piece in pieces)


@pytest.mark.anyio
class TestThroughTheApi:
    def body(self, mode: str, transcript: str, sentences: int = 12) -> dict[str, object]:
        file = io.BytesIO()
        soundfile.write(file, recording(sentences).waveform, RATE, format="OGG", subtype="VORBIS")
        options = {"mode": mode, "input_audio_base64": base64.b64encode(file.getvalue()).decode()}
        if mode in ("emotion", "style", "speed"):
            options["edit_info"] = {"speed": "faster"}.get(mode, "remove")
        if mode not in ("denoise", "vad"):
            options["audio_text"] = transcript
        return {"input": transcript, "step_audio": options}

    @pytest.mark.parametrize("mode", ["emotion", "style", "speed", "paralinguistic", "denoise", "vad"])
    async def test_every_edit_is_done_in_parts(self, http: httpx.AsyncClient, backend: FakeBackend, mode: str) -> None:
        answer = await http.post(SPEECH, json=self.body(mode, " ".join(SENTENCES)))
        assert answer.status_code == 200, answer.text
        assert len(backend.jobs) == 3
        assert len({job.sampling.seed for job in backend.jobs}) == 3
        pauses = 0.0 if mode in ("denoise", "vad") else 0.6
        assert wav_seconds(answer.content) == pytest.approx(3 * SECONDS + pauses)
        assert ("3 parts" in answer.headers.get("x-stepaudio-warning", "")) is bool(pauses)

    async def test_words_that_are_not_given_are_heard_part_by_part(
        self, backend: FakeBackend, settings: Settings
    ) -> None:
        recognizer = FakeRecognizer()
        body = self.body("paralinguistic", "")
        body["input"] = "Hello there. How are you? " * 2 + "[Laughter] Hello there. How are you?"
        app = create_app(settings, backend, recognizer)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
            answer = await http.post(SPEECH, json=body)
        assert answer.status_code == 200, answer.text
        assert [clip.seconds for clip in recognizer.pieces] == [job.clip.seconds for job in backend.jobs]
        assert [job.prompt_text for job in backend.jobs] == ["Hello there. How are you?"] * 3
        last = "[Laughter] Hello there. How are you?"
        assert [job.text for job in backend.jobs] == ["Hello there. How are you?"] * 2 + [last]
        assert wav_seconds(answer.content) == pytest.approx(3 * SECONDS + 0.6)

    async def test_a_new_text_with_too_few_words_is_named(self, http: httpx.AsyncClient) -> None:
        body = {**self.body("paralinguistic", " ".join(SENTENCES)), "input": "Well."}
        assert_error(await http.post(SPEECH, json=body), 400, "invalid_value", "input")

    async def test_too_few_words_are_the_callers_fault(self, http: httpx.AsyncClient, backend: FakeBackend) -> None:
        answer = await http.post(SPEECH, json=self.body("emotion", "Well."))
        assert_error(answer, 400, "invalid_value", "step_audio.audio_text")
        assert not backend.jobs

    async def test_there_is_a_longest_recording(self, http: httpx.AsyncClient) -> None:
        answer = await http.post(SPEECH, json=self.body("emotion", " ".join(SENTENCES), sentences=23))
        assert "longer than 120 s" in assert_error(answer, 400, "invalid_audio", "step_audio.input_audio_base64")
