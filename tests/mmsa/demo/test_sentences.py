import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mmsa.demo.sentences import LEVELS, NEGATIVE_FLAVOURS, compose

levels = st.sampled_from(LEVELS)
flavours = st.sampled_from(NEGATIVE_FLAVOURS)
seeds = st.integers(0, 2**32 - 1)


@given(levels, flavours, st.booleans(), seeds)
def test_a_sentence_is_plain_english(level, flavour, surprised, seed):
    text = compose(level, np.random.default_rng(seed), flavour, surprised)
    assert text[0].isupper()
    assert text.endswith(".")
    assert "{" not in text
    assert "  " not in text
    assert ",." not in text
    assert 4 <= len(text.split()) <= 16
    assert compose(level, np.random.default_rng(seed), flavour, surprised) == text


def mean_valence(level):
    """An independent judge: the VADER lexicon, over 200 sentences."""
    judge = SentimentIntensityAnalyzer()
    rng = np.random.default_rng(5)
    flavours = [str(rng.choice(NEGATIVE_FLAVOURS)) for _ in range(200)]
    return np.mean([judge.polarity_scores(compose(level, rng, flavour))["compound"] for flavour in flavours])


def test_valence_rises_with_the_level():
    means = [mean_valence(level) for level in LEVELS]
    assert all(np.diff(means) > 0)
    assert means[0] < -0.5
    assert abs(means[3]) < 0.1
    assert means[-1] > 0.5


def test_sentences_of_one_level_vary():
    rng = np.random.default_rng(0)
    assert len({compose(2, rng) for _ in range(300)}) > 270


def test_mild_levels_use_negation_and_strong_ones_intensity():
    rng = np.random.default_rng(1)
    mild = [compose(-1, rng) for _ in range(100)]
    strong = [compose(-3, rng) for _ in range(100)]
    assert 20 < sum(" not " in text or " never " in text for text in mild) < 80
    words = ("really", "absolutely", " so ", "very", "extremely", "incredibly", "totally", "completely")
    assert all(any(word in text for word in words) for text in strong)


def test_refuses_what_it_does_not_know():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"level must be one of \(-3, .*not 4"):
        compose(4, rng)
    with pytest.raises(ValueError, match=r"flavour must be one of .* not 'joy'"):
        compose(-2, rng, "joy")
