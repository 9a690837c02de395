"""The tiny chat model's recipe; what it learnt is tested in tests/chat."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from python_backend.chat.prompt import Prompter
from training.chat.__main__ import batch, encode, main, train_tokenizer
from training.chat.corpus import Corpus, Exchange


@pytest.fixture(scope="module")
def corpus():
    return Corpus()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    main(folder, steps=2, seed=1)
    return folder


def test_it_trains_on_what_the_chat_template_gives(checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint).backend_tokenizer
    prompter = Prompter(checkpoint)
    for system in ("", "be brief"):
        ids, question = encode(tokenizer, Exchange(system, "你好 hi", "yes"))
        messages = [{"role": "system", "content": system}] if system else []
        assert prompter.encode([*messages, {"role": "user", "content": "你好 hi"}]) == ids[:question]
        assert tokenizer.decode(ids[question:], skip_special_tokens=False) == "yes<|im_end|>"


def test_the_same_seed_gives_the_same_model(checkpoint, tmp_path):
    main(tmp_path, steps=2, seed=1)
    one, other = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (checkpoint, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_answers_are_learnt(corpus):
    tokenizer = train_tokenizer(corpus, 600)
    ids, targets = batch(tokenizer, corpus, random.Random(5), 8)
    for row, learnt in zip(ids, targets, strict=True):
        places = torch.nonzero(learnt != -100).flatten()
        assert places.tolist() == list(range(places[0], places[-1] + 1))
        assert torch.equal(row[places + 1], learnt[places])
        assert tokenizer.decode(row[: places[0] + 1].tolist(), skip_special_tokens=False).endswith("assistant\n")


def test_half_of_all_questions_are_unknown_in_both_languages(corpus):
    dice = random.Random(3)
    drawn = [corpus.draw(dice) for _ in range(1000)]
    unknown = [one for one in drawn if one.assistant in (corpus.fallback("hi"), corpus.fallback("你好"))]
    assert 400 < len(unknown) < 600
    assert {one.assistant for one in unknown} == {corpus.fallback("hi"), corpus.fallback("你好")}
    slots = ("{topic}", "{verb}", "{number}")
    assert not any(slot in one.user.lower() for one in drawn for slot in slots)
