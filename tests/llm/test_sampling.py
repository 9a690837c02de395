import numpy as np
import pytest
import torch

from python_backend.llm import grammar
from python_backend.llm.sampling import Draw, Sampling, is_ranked, repeated, sample, tabulate, uniforms


def draw_many(logits, sampling, count=20_000):
    batch = torch.tensor(logits)[None].expand(count, -1)
    table = tabulate([Draw(sampling, uniform) for uniform in uniforms(1, count)])
    return sample(batch, table, ranked=is_ranked(sampling)).numpy()


def frequencies_fit(found, probabilities):
    probabilities = np.asarray(probabilities, dtype=float)
    counts = np.bincount(found, minlength=len(probabilities))
    assert not counts[probabilities == 0].any()
    kept = probabilities > 0
    expected = counts.sum() * probabilities[kept] / probabilities.sum()
    return (np.square(counts[kept] - expected) / expected).sum() < 20.5  # chi-square, 5 degrees of freedom, p = 0.001


def softmax(values):
    weights = np.exp(np.asarray(values, dtype=float) - np.max(values))
    return weights / weights.sum()


LOGITS = [1.0, 0.0, 2.0, -1.0, 0.5, 1.5]


@pytest.mark.parametrize("temperature", [0.5, 0.7, 1.0, 2.0])
def test_temperature(temperature):
    found = draw_many(LOGITS, Sampling(temperature=temperature))
    assert frequencies_fit(found, softmax(np.array(LOGITS) / temperature))


def test_top_k_keeps_the_k_likeliest():
    expected = softmax(LOGITS) * [1, 0, 1, 0, 0, 1]
    assert frequencies_fit(draw_many(LOGITS, Sampling(temperature=1, top_k=3)), expected)
    assert set(draw_many(LOGITS, Sampling(temperature=1, top_k=1)).tolist()) == {2}
    assert frequencies_fit(draw_many(LOGITS, Sampling(temperature=1, top_k=99)), softmax(LOGITS))


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    # In order: 2 (.44), 5 (.27), 0 (.16), …: 0.5 needs two, 0.75 three.
    assert frequencies_fit(draw_many(LOGITS, Sampling(temperature=1, top_p=0.5)), softmax(LOGITS) * [0, 0, 1, 0, 0, 1])
    assert frequencies_fit(draw_many(LOGITS, Sampling(temperature=1, top_p=0.75)), softmax(LOGITS) * [1, 0, 1, 0, 0, 1])
    assert set(draw_many(LOGITS, Sampling(temperature=1, top_p=1e-6)).tolist()) == {2}


def test_top_k_among_equals_keeps_the_first_columns():
    assert set(draw_many([0.0] * 6, Sampling(temperature=1, top_k=2)).tolist()) == {0, 1}


def test_temperature_zero_takes_the_likeliest_and_a_tiny_one_does_not_overflow():
    assert set(draw_many(LOGITS, Sampling(temperature=0), 10).tolist()) == {2}
    assert set(draw_many([1e4, -1e4, 9e3], Sampling(temperature=1e-9), 10).tolist()) == {0}


def test_impossible_columns_are_never_chosen():
    logits = [-np.inf, 0.0, -np.inf, 0.0, -np.inf]
    for sampling in (Sampling(), Sampling(top_k=5), Sampling(top_p=0.99), Sampling(temperature=0)):
        assert set(draw_many(logits, sampling, 2000).tolist()) <= {1, 3}
    edges = sample(torch.tensor([logits] * 2), tabulate([Draw(Sampling(), 0.0), Draw(Sampling(), 1 - 2**-53)]))
    assert edges.tolist() == [1, 3]


def test_what_is_not_a_number_is_reported_for_its_row_alone():
    logits = torch.tensor([LOGITS, [np.nan, *LOGITS[1:]], [-np.inf] * 6, LOGITS])
    for temperature in (0.0, 0.7):
        found = sample(logits, tabulate([Draw(Sampling(temperature=temperature), 0.5)] * 4)).tolist()
        assert found[1:3] == [-1, -1]
        assert found[0] == found[3] >= 0


def test_a_banned_column_is_not_chosen():
    logits = torch.tensor([LOGITS] * 2)
    found = sample(logits, tabulate([Draw(Sampling(temperature=0), 0.0, 2), Draw(Sampling(temperature=0), 0.0)]))
    assert found.tolist() == [5, 2]
    assert logits[0, 2] == 2.0, "the caller's logits were changed"


def test_a_row_does_not_depend_on_the_others():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(6, 5121, generator=generator) * 2
    rules = [
        *(Sampling(), Sampling(top_k=50), Sampling(top_p=0.9), Sampling(temperature=0)),
        *(Sampling(temperature=1.3), Sampling(top_k=7, top_p=0.5)),
    ]
    draws = [Draw(rule, uniform) for rule, uniform in zip(rules, uniforms(5, 6), strict=True)]
    together = sample(logits, tabulate(draws)).tolist()
    alone = [
        sample(logits[row : row + 1], tabulate([draw]), ranked=is_ranked(draw.sampling)).item()
        for row, draw in enumerate(draws)
    ]
    assert alone == together


def test_uniforms_depend_on_seed_and_step_alone():
    assert (uniforms(7, 100)[:10] == uniforms(7, 10)).all()
    assert (uniforms(7, 10) != uniforms(8, 10)).all()
    assert (uniforms(-1, 10) != uniforms(1, 10)).all()
    for seed in (-(2**63), 2**63 - 1):
        values = uniforms(seed, 1000)
        assert 0 <= values.min() < 0.01
        assert 0.99 < values.max() < 1
    assert abs(np.corrcoef(uniforms(1, 10_000), uniforms(2, 10_000))[0, 1]) < 0.04


@pytest.mark.parametrize(
    ("ids", "forbidden"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], None),  # fewer than ten
        ([9, 2, 3, 4, 5, 6, 7, 8, 9], None),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], None),  # once is a share of 0.1, not above it
        ([10, 2, 3, 4, 5, 6, 7, 8, 9, 10], 10),
        ([10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], None),  # the first is outside the window
        ([5, 5, 5, 5, 5, 5, 5, 5, 5, 1], None),  # only the latest can be forbidden
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
    ],
)
def test_repetition_rule(ids, forbidden):
    assert repeated(ids) == forbidden


def test_grammar_table_and_pattern_agree():
    table = grammar.allowed_table()
    for generated in range(12):
        allowed = table[grammar.row(generated)]
        for token in (0, 1023, 1024, 5119):
            assert allowed[token] == (grammar.misplaced([token], generated) is None)
        assert allowed[grammar.STOP] == (generated > 0 and generated % 5 == 0)
    assert grammar.misplaced([0, 1023, 1024, 5119, 2000] * 2) is None
    assert grammar.misplaced([0, 1023, 1024, 5119, 1023]) == 4
    assert grammar.misplaced([-1]) == grammar.misplaced([5120]) == grammar.misplaced([1024]) == 0
    assert grammar.misplaced([5120], 2) == 0
