"""Every stage that learns, for two steps on a small corpus: shapes, losses, what it leaves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from python_backend.llm import grammar
from python_backend.llm.tokenizer import Tokenizer
from python_backend.voice.mel import log_mel
from tests.training.small_corpus import GROUPS
from training import flow, linguistic, llm, recognizer, semantic, speaker, vocoder
from training.dataset import Corpus
from training.mels import Mels
from training.pairs import Pairs
from training.tasks import SHARES, Tasks

CPU = torch.device("cpu")
SHORT = 1e-6  # of the effort: two steps


@pytest.fixture(scope="module")
def pairs(corpus_and_work: tuple[Corpus, Path]) -> Pairs:
    return Pairs(*corpus_and_work)


def test_mels_are_those_of_the_clips(corpus_and_work: tuple[Corpus, Path]) -> None:
    corpus, work = corpus_and_work
    mels = Mels(corpus, work)
    clip = corpus.clips[-1]
    np.testing.assert_allclose(mels.mel(clip), log_mel(corpus.waveform(clip)).T, atol=0.01)
    assert np.median(mels.f0(clip)) == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        (linguistic, "linguistic.pt"),
        (semantic, "semantic.pt"),
        (vocoder, "vocoder.pt"),
        (recognizer, "recognizer.pt"),
    ],
)
def test_a_stage_learns_and_leaves_its_network(
    stage: object, left: str, corpus_and_work: tuple[Corpus, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, work = corpus_and_work
    monkeypatch.setattr(stage, "BATCH", 2)
    monkeypatch.setattr(linguistic, "LINGUISTIC_CODES", 16)
    monkeypatch.setattr(recognizer, "ENGLISH_PIECES", 16)
    stage.run(corpus, work, CPU, SHORT)  # type: ignore[attr-defined]
    assert (work / left).exists()


def test_the_speaker_encoder_takes_longer_clips(
    corpus_and_work: tuple[Corpus, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, work = corpus_and_work
    monkeypatch.setattr(speaker, "SECONDS", 1.0)
    monkeypatch.setattr(speaker, "BATCH", 4)
    speaker.run(corpus, work, CPU, SHORT)
    assert (work / "speaker.pt").exists()


def test_a_flow_batch_has_prompt_and_target_side_by_side(pairs: Pairs) -> None:
    batch = pairs.mel_batch(np.random.default_rng(0), 200)
    count, frames, _ = batch.mel.shape
    assert count == 200 // (2 * GROUPS)
    assert frames == 2 * GROUPS * 6
    assert batch.tokens.shape == (count, 2 * GROUPS * 3, 2)
    assert (batch.lengths == 2 * GROUPS).all()
    assert (batch.prompts == GROUPS).all()
    assert (batch.prompt_mel[:, GROUPS * 6 :] == 0).all()
    assert (batch.prompt_mel[:, : GROUPS * 6] != 0).any()


@pytest.mark.parametrize("seed", range(4))
def test_the_flow_learns_from_whole_utterances_and_from_streams(pairs: Pairs, seed: int) -> None:
    network = flow.build()
    batch = pairs.mel_batch(np.random.default_rng(seed), 100)
    losses = flow.losses(network, batch, np.random.default_rng(seed), CPU)
    sum(losses.values(), torch.zeros(())).backward()
    gradient = network.input_embedding.embedding.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()


def test_the_encoder_is_that_of_the_server(pairs: Pairs) -> None:
    """Unmasked, the recipe's own walk through the encoder gives what the served network does."""
    network = flow.build().eval()
    batch = pairs.mel_batch(np.random.default_rng(0), 100)
    tokens, lengths = torch.from_numpy(batch.tokens), torch.from_numpy(batch.lengths)
    lengths = lengths - torch.arange(len(lengths))
    valid = torch.arange(batch.mel.shape[1]) < (lengths * 6)[:, None]
    _, mask = flow._masks(torch.from_numpy(batch.prompts), valid, None)
    with torch.no_grad():
        found = flow._mu(network, tokens, lengths, None, mask)
        expected = network.mu(tokens, lengths * 3)
    torch.testing.assert_close(found[valid], expected[valid], atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def tasks(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    path = tmp_path_factory.mktemp("llm") / "tokenizer.model"
    llm.write_tokenizer(path, ["the cat sat"] * 9)
    return Tasks(pairs, Tokenizer(path))


@pytest.mark.parametrize("kind", ["clone", "denoise", "style", "vad", "untrained"])
def test_every_task_ends_in_whole_groups_of_speech(tasks: Tasks, kind: str) -> None:
    assert kind in SHARES
    task = tasks._draw[kind](np.random.default_rng(1))
    assert task is not None
    answer = [token - tasks.tokenizer.audio_offset for token in task[1]]
    assert len(answer) == 5 * GROUPS
    assert grammar.misplaced(answer) is None


def test_the_loss_is_the_likelihood_under_the_grammar(tasks: Tasks) -> None:
    tokenizer = tasks.tokenizer
    offset = tokenizer.audio_offset
    network = llm.build(offset + grammar.AUDIO_TOKENS, CPU)
    prompt, answer = [5, 6, 7], [offset + token for token in (3, 4, 1100, 1200, 1300)]
    ids = torch.tensor([[*prompt, *answer, tokenizer.eot]])
    weights = torch.tensor([[0.0, 0.0, *[1.0] * 6]])
    found = llm.SpeechLoss(network, tokenizer, CPU)(llm.Batch(ids, weights))["token"]

    hidden = network(ids[:, :-1], llm.CausalAttention(network.slope, ids.shape[1] - 1, torch.float32))[0, 2:]
    logits = network.lm_head(hidden)[:, [*range(offset, offset + grammar.AUDIO_TOKENS), tokenizer.eot]]
    allowed = grammar.allowed_table()[[1, 1, 3, 3, 3, 1]]  # a stop is never wanted within a group, nor forbidden there
    wanted = torch.tensor([3, 4, 1100, 1200, 1300, grammar.STOP])
    expected = torch.nn.functional.cross_entropy(logits.masked_fill(~allowed, -torch.inf), wanted)
    torch.testing.assert_close(found, expected)


def test_frequent_words_are_pieces_and_others_are_spelt(tasks: Tasks) -> None:
    count = len(tasks.tokenizer.encode("the cat"))
    assert count == 2
    assert len(tasks.tokenizer.encode("the cow")) > count
