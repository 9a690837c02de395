import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SPECIALS = [
    "<audio_5>",
    "<audio_9215>",
    "<|SEP_1e69f|>",
    "<user_defined_symbol_22>",
    "<|EOT|>",
    "<|BOT|>",
    "<s>",
    "</s>",
]
TRICKY = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.one_of(
            st.sampled_from([*SPECIALS, "<", "|", "audio_", "<audio_", "7>", "\n", " ", "▁"]), st.text(max_size=5)
        )
    ).map("".join),
)


@pytest.fixture(params=["released", "demo"])
def tokenizer(request):
    return request.getfixturevalue(f"{request.param}_tokenizer")


def test_special_ids_come_from_the_model_file(released_tokenizer, demo_tokenizer):
    for tokenizer in (released_tokenizer, demo_tokenizer):
        assert (tokenizer.bos, tokenizer.bot, tokenizer.eot, tokenizer.audio_tokens) == (1, 4, 3, 9216)
    assert released_tokenizer.audio_offset == 65536
    assert demo_tokenizer.audio_offset < 2000


def test_fixed_pieces_of_the_chat(released_tokenizer):
    encode = released_tokenizer.encode
    assert encode("assistant\n") == [15886, 78]
    assert encode("human\n") == [4623, 78]
    assert encode("system\n") == [2323, 78]


@pytest.mark.parametrize("special", SPECIALS)
def test_a_written_out_special_piece_is_found_and_read_as_characters(tokenizer, special):
    text = f"before {special} after"
    assert tokenizer.special_piece_in(text) == special
    assert plain(tokenizer, tokenizer.encode(text))
    assert tokenizer.special_piece_in("a < b, <br>, [Laughter] and <audio_> are plain") is None


@settings(max_examples=300, deadline=None)
@given(text=TRICKY)
def test_text_never_becomes_a_control_or_audio_token(demo_tokenizer, text):
    for word_start in (True, False):
        assert plain(demo_tokenizer, demo_tokenizer.encode(text, word_start=word_start))


@settings(max_examples=300, deadline=None)
@given(text=TRICKY)
def test_text_never_becomes_a_control_or_audio_token_with_the_released_model(released_tokenizer, text):
    ids = released_tokenizer.encode(text)
    assert plain(released_tokenizer, ids)
    assert released_tokenizer._model.decode(ids).replace("▁", " ") == text.replace("▁", " ")


@settings(max_examples=200, deadline=None)
@given(head=st.text(max_size=20), tail=st.text(max_size=20))
def test_text_goes_on_after_a_newline_as_if_it_had_been_encoded_in_one(released_tokenizer, head, tail):
    encode = released_tokenizer.encode
    assert encode(f"{head}\n") + encode(tail, word_start=False) == encode(f"{head}\n{tail}")


def plain(tokenizer, ids):
    first_plain = 68  # bytes, then normal pieces; 0 is <unk>
    return all(first_plain <= token < tokenizer.audio_offset for token in ids)
