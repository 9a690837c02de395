import numpy as np
import pytest

from python_backend.asr.recognizer import QUERIES, Recognizer
from python_backend.errors import InvalidInput
from python_backend.voice.resample import resample
from tests.e2e.triton_inputs import clip

RATE = 16_000


@pytest.fixture
def recognizer(exported, network):
    network.asked.clear()
    made = Recognizer(exported, network, threads=4)
    yield made
    made.close()


def speech(seconds):
    audio, rate = clip()
    audio = resample(audio, rate, RATE)
    return np.tile(audio, -(-int(seconds * RATE) // len(audio)))[: int(seconds * RATE)]


@pytest.fixture
def scripted(vocabulary, exported, tmp_path):
    """Makes recognisers whose network answers every piece with given tokens."""
    for name in ("silero_vad.onnx", "tokens.model"):
        source = exported if name == "silero_vad.onnx" else vocabulary.folder
        (tmp_path / name).write_bytes((source / name).read_bytes())
    made = []

    def make(*pieces):
        tokens = vocabulary.tokens(*pieces)
        answer = {
            "tokens": np.pad(tokens, (0, 9), constant_values=5)[None],
            "log_probs": np.full((1, len(tokens) + 9), -0.5, np.float32),
            "tokens_length": np.array([[len(tokens)]], np.int32),
        }
        made.append(Recognizer(tmp_path, lambda *_: answer))
        return made[-1]

    yield make
    for recognizer in made:
        recognizer.close()


def test_speech_gives_text(recognizer, network):
    transcript = recognizer.recognise(*clip())
    assert transcript.text
    assert transcript.text == "".join(segment.text for segment in transcript.segments).strip()
    assert len(network.asked) == 1
    assert transcript.stage_ms.shape == (3,)
    moments = [moment for segment in transcript.segments for word in segment.words for moment in (word.start, word.end)]
    assert moments == sorted(moments)


def test_the_rate_does_not_matter_much(recognizer):
    audio = speech(4)
    words = {rate: recognizer.recognise(resample(audio, RATE, rate), rate).text for rate in (16_000, 48_000)}
    assert words[16_000]
    assert words[48_000]


def test_silence_is_not_asked_about(recognizer, network):
    transcript = recognizer.recognise(np.zeros(3 * RATE, np.float32), RATE)
    assert (transcript.text, transcript.language, transcript.segments) == ("", "", ())
    assert not network.asked


def test_long_audio_is_done_in_pieces(recognizer, network):
    audio = speech(70)
    transcript = recognizer.recognise(audio, RATE)
    assert len(network.asked) >= 3
    assert max(network.asked) <= 30 * RATE
    assert sum(network.asked) == len(audio)
    starts = [segment.start for segment in transcript.segments]
    assert starts == sorted(starts)
    assert transcript.segments[-1].end > 60


def test_pieces_one_by_one_are_the_whole(recognizer):
    audio = speech(65)
    places = recognizer.cuts(audio, RATE)
    assert places.dtype == np.int32
    assert len(places) >= 2
    apart = [recognizer.recognise(part, RATE, dither=0.0).text for part in np.split(audio, places)]
    assert "".join("".join(apart).split()) == "".join(recognizer.recognise(audio, RATE, dither=0.0).text.split())


def test_cuts_are_in_the_callers_samples(recognizer):
    audio = speech(40)
    (place,) = recognizer.cuts(resample(audio, RATE, 48_000), 48_000)
    assert abs(place / 48_000 - recognizer.cuts(audio, RATE)[0] / RATE) < 0.5
    assert len(recognizer.cuts(audio[: 30 * RATE], RATE)) == 0


def test_a_segment_says_everything(scripted):
    recognizer = scripted("<|en|>", "<|HAPPY|>", "<|Laughter|>", "<|withitn|>", "▁you", "_", "▁want", ".", "▁to")
    transcript = recognizer.recognise(speech(2), RATE)
    assert (transcript.text, transcript.language) == ("you want. to", "en")
    first, second = (segment.as_json() for segment in transcript.segments)
    no_speech = first.pop("no_speech")
    assert 0 <= no_speech < 0.5
    assert first == {
        "start": 0.0,
        "end": 0.21,
        "text": " you want.",
        "language": "en",
        "emotion": "happy",
        "events": ["laughter"],
        "log_prob": -0.5,
        "tokens": first["tokens"],
        "words": [{"word": " you", "start": 0.0, "end": 0.09}, {"word": " want.", "start": 0.09, "end": 0.21}],
    }
    assert len(first["tokens"]) == 3
    assert second["text"] == " to"


def test_what_the_network_makes_of_noise_is_dropped(scripted):
    recognizer = scripted(*["<|en|>"] * QUERIES, "▁", "T", "h", "e", ".")
    assert recognizer.recognise(speech(2), RATE).text == ""


@pytest.mark.parametrize(
    ("field", "audio", "rate", "language"),
    [
        ("audio", np.zeros(1000, np.float32), RATE, "auto"),
        ("audio", np.zeros(1801 * 8000, np.float32), 8000, "auto"),
        ("sample_rate", np.zeros(RATE, np.float32), 7999, "auto"),
        ("sample_rate", np.zeros(RATE, np.float32), 192_001, "auto"),
        ("language", np.zeros(RATE, np.float32), RATE, "fr"),
    ],
)
def test_bad_inputs_are_named(recognizer, field, audio, rate, language):
    with pytest.raises(InvalidInput) as failure:
        recognizer.recognise(audio, rate, language)
    assert failure.value.field == field
