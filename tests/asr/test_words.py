import json
import re

import numpy as np
import pytest
import sentencepiece

from python_backend.asr.words import TokenDecoder
from tests.asr.conftest import GOLDEN

CASES = json.loads((GOLDEN / "texts.json").read_text(encoding="utf-8"))["texts"]
TOKENS = GOLDEN / "SenseVoiceSmall" / "chn_jpn_yue_eng_ko_spectok.bpe.model"


def texts(words):
    return [word.text for word in words]


def test_repeats_are_one_and_blanks_nothing(vocabulary):
    words = vocabulary.words("_", "▁you", "▁you", "_", "▁you", "_", "▁want", "▁to", "_")
    assert texts(words) == [" you", " you", " want", " to"]


def test_blanks_alone_are_no_words(vocabulary):
    assert vocabulary.words("_", "_") == []
    assert vocabulary.words() == []


def test_pieces_join_to_words_and_punctuation_stays_with_them(vocabulary):
    words = vocabulary.words("▁get", "t", "_", "_", "i", "_", ".", "▁a", "我", "，", "们", "▁", "2", "a", "!")
    assert texts(words) == [" getti.", " a", "我，", "们", " 2a!"]


def test_a_character_alone_stands_alone_and_a_lone_space_is_no_word(vocabulary):
    assert texts(vocabulary.words("▁", "我", "t", "o", "_", "▁", "_")) == ["我", "to"]


def test_times_are_those_of_the_frames(vocabulary):
    words = vocabulary.words("_", "▁you", "▁you", "_", "▁want", "_", "_", "_", "_", "_", "_", "_", "_", "。")
    assert (words[0].start, words[0].end) == (0.03, 0.21), "until the next word"
    assert (words[1].start, words[1].end) == (0.21, 0.81), "to its last token"
    words = vocabulary.words("▁you", *"__________", "▁want", *"__________")
    assert (words[0].start, words[0].end) == pytest.approx((0.0, 0.33)), "no longer than a tail"
    assert (words[1].start, words[1].end) == pytest.approx((0.63, 0.99))


def test_the_last_word_ends_with_the_audio(vocabulary):
    assert vocabulary.words("▁you", "_")[0].end == 0.09


def test_log_probabilities_add_up_over_tokens(vocabulary):
    tokens = vocabulary.tokens("▁get", "▁get", "t", "_")
    words = vocabulary.decoder.words(tokens, np.array([-1.0, -3.0, -0.5, -9.0], np.float32))
    assert words[0].log_prob == pytest.approx(-2.5)


def test_tags_are_no_words(vocabulary):
    assert texts(vocabulary.words("<|en|>", "▁you", "<|BGM|>", "<s>", "</s>", "_")) == [" you"]


@pytest.mark.parametrize(
    ("names", "language", "emotion", "events"),
    [
        ("zh HAPPY Speech withitn", "zh", "happy", ()),
        ("en EMO_UNKNOWN BGM woitn", "en", "", ("bgm",)),
        ("yue NEUTRAL Laughter withitn SAD", "yue", "neutral", ("laughter",)),
        ("ja NEUTRAL Speech withitn SAD SAD Cry Cry Cough", "ja", "sad", ("cry", "cough")),
        ("nospeech EMO_UNKNOWN Event_UNK woitn", "", "", ()),
        ("", "", "", ()),
    ],
)
def test_tags_say_how_it_is_said(vocabulary, names, language, emotion, events):
    tags = vocabulary.decoder.tags(vocabulary.tokens(*(f"<|{name}|>" for name in names.split()), "▁you"))
    assert (tags.language, tags.emotion, tags.events) == (language, emotion, events)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_text_is_that_of_funasr(case):
    """FunASR decodes the query frames as well and keeps the tags."""
    with np.load(GOLDEN / "golden.npz") as golden:
        logits = golden[f"logits_{case}"]
    tokens = logits.argmax(axis=1).astype(np.int32)
    words = TokenDecoder(TOKENS).words(tokens, logits.max(axis=1))

    def bare(text):
        return re.sub(r"<\|\w+\|>|\s", "", text)

    assert bare("".join(texts(words))) == bare(CASES[case])


def test_a_models_bytes_make_letters(tmp_path):
    text = tmp_path / "text"
    text.write_text("abc abd\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "m"), vocab_size=266, byte_fallback=True, minloglevel=2
    )
    decoder = TokenDecoder(tmp_path / "m.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    tokens = np.array(processor.encode("abc é"), np.int32)
    assert "".join(texts(decoder.words(tokens, np.zeros(len(tokens), np.float32)))).strip() == "abc é"
