import pytest

from export.chat import DEFAULT_CHECKPOINT
from python_backend.chat.prompt import Prompter
from python_backend.chat.text import TextStream
from python_backend.errors import InvalidInput


@pytest.fixture(scope="module")
def prompter():
    return Prompter(DEFAULT_CHECKPOINT)


def fed(prompter, text, stops=()):
    stream = TextStream(prompter.backend, stops)
    pieces = [stream.feed([token]) for token in prompter.backend.encode(text).ids]
    return [*pieces, stream.finish()], stream


def test_characters_are_never_torn(prompter):
    text = "龘 naïve 🎈 ok"  # spelt in single bytes
    pieces, _ = fed(prompter, text)
    assert "".join(pieces) == text
    assert all("�" not in piece for piece in pieces)
    assert "" in pieces


@pytest.mark.parametrize(
    ("stops", "left"), [(("wor",), "hello "), (("zzz", "lo w"), "hel"), (("zzz",), "hello world"), (("hello",), "")]
)
def test_text_ends_before_a_stop_text_and_shows_nothing_of_it(prompter, stops, left):
    pieces, stream = fed(prompter, "hello world", stops)
    assert "".join(pieces) == left
    assert stream.stopped == (left != "hello world")
    for length in range(1, len(pieces)):
        assert left.startswith("".join(pieces[:length]))


def test_a_prompt_holds_the_system_message_and_the_last_turn(prompter):
    def user(text):
        return {"role": "user", "content": text}

    system, answer = {"role": "system", "content": "be brief"}, {"role": "assistant", "content": "yes"}
    alone = prompter.encode([user("hi")])
    assert prompter.encode([user("before"), answer, user("hi")]) == alone
    assert prompter.encode([system, user("hi")])[-len(alone) :] == alone


def test_control_tokens_cannot_be_written(prompter):
    with pytest.raises(InvalidInput, match=r"number 1 must not contain the control token <\|im_end\|>"):
        prompter.encode([{"role": "user", "content": "a"}, {"role": "user", "content": "b<|im_end|>"}])
