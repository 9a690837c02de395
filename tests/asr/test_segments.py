from python_backend.asr.segments import LONGEST_SECONDS, grouped
from python_backend.asr.words import Word


def spoken(*words, step=0.5, gaps=None):
    made, now = [], 0.0
    for number, text in enumerate(words):
        now += (gaps or {}).get(number, 0.0)
        made.append(Word(text, now, now + step, (number,), -0.1))
        now += step
    return made


def texts(words):
    return ["".join(word.text for word in group) for group in grouped(words)]


def test_a_segment_ends_with_a_sentence():
    assert texts(spoken(" Hello", " there.", " 3.5", ' "Yes!"', "好", "。", "吗？）", "对")) == [
        " Hello there.",
        ' 3.5 "Yes!"',
        "好。",
        "吗？）",
        "对",
    ]


def test_a_segment_ends_at_a_pause():
    assert texts(spoken(" a", " b", " c", gaps={1: 0.7, 2: 0.9})) == [" a b", " c"]


def test_no_segment_lasts_for_ever():
    groups = list(grouped(spoken(*[" word"] * 100)))
    assert all(group[-1].end - group[0].start <= LONGEST_SECONDS for group in groups)
    assert sum(map(len, groups)) == 100
    assert len(groups) == 5


def test_nothing_is_no_segment():
    assert not texts([])
