from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsa.robustness.words import (
    DELETED,
    INSERTED,
    SUBSTITUTED,
    Vocabulary,
    distance,
    mishear,
    sound_of,
    word_error_rate,
    words_of,
)

SENTENCES = [
    "I could not wait to see the new film by the sea",
    "there is nothing right about their night at the week end",
    "he is too weak to write two letters about the knight",
    "It was a WONDERFUL evening and I would see it again, really!",
    "the actors were fine but the story made no sense to me at all",
]
VOCABULARY = Vocabulary(SENTENCES)


def slow_distance(first: str, second: str) -> int:
    """The recursion of the definition."""

    @cache
    def rest(i: int, j: int) -> int:
        if i == len(first) or j == len(second):
            return len(first) - i + len(second) - j
        same = rest(i + 1, j + 1) + (first[i] != second[j])
        return min(same, rest(i + 1, j) + 1, rest(i, j + 1) + 1)

    return rest(0, 0)


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_distance_is_that_of_the_definition(first: str, second: str) -> None:
    assert distance(first, second) == slow_distance(first, second)


def test_word_error_rate_by_hand() -> None:
    """One substitution, one deletion and one insertion on seven words; punctuation is part of a word."""
    assert word_error_rate(["a b c d", "e f g"], ["a x c d", "f g h"]) == pytest.approx(3 / 7)
    assert word_error_rate(["a b"], [""]) == 1.0
    assert word_error_rate(["so good!"], ["so good"]) == 0.5
    assert math.isnan(word_error_rate([""], ["x"]))
    assert word_error_rate(["很好"], ["很坏"]) == 0.5


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6, 0.9])
def test_the_realised_rate_is_the_one_asked_for(rate: float) -> None:
    """Errors are independent, so that their number is binomial, and each costs one edit.

    But for chance: a word that is heard instead, or made up, may be the one that stands beside it.
    """
    said = [sentence for sentence in SENTENCES for _ in range(80)]
    heard = [mishear(text, rate, VOCABULARY, seed=0, key=str(i)) for i, text in enumerate(said)]
    words = sum(len(words_of(text)) for text in said)
    margin = 4 * math.sqrt(rate * (1 - rate) / words)
    assert rate - margin - 0.03 * rate <= word_error_rate(said, heard) <= rate + margin


def test_the_kinds_have_their_shares() -> None:
    """Words alone in their sentence tell which error hit them."""
    heard = [mishear("night", 1.0, VOCABULARY, seed=0, key=str(i)) for i in range(3000)]
    deleted = sum(text == "" for text in heard)
    inserted = sum(text.startswith("night ") for text in heard)
    for count, share in ((deleted, DELETED), (inserted, INSERTED), (3000 - deleted - inserted, SUBSTITUTED)):
        assert abs(count - 3000 * share) < 4 * math.sqrt(3000 * share * (1 - share))


def test_nothing_happens_at_rate_zero_and_spaces_stay() -> None:
    assert mishear("a  b\tc", 0.0, VOCABULARY, seed=0, key="") == "a  b\tc"


def test_errors_follow_from_seed_and_clip() -> None:
    text = " ".join(SENTENCES)
    first, same, seed, key = (
        mishear(text, 0.4, VOCABULARY, seed=s, key=k) for s, k in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))
    )
    assert first == same
    assert len({first, seed, key}) == 3


def test_errors_of_one_rate_are_among_those_of_a_higher_one() -> None:
    """Words that survive the high rate survive the low one, at the same place between the same survivors."""
    text = " ".join(f"word{i}" for i in range(200))
    vocabulary = Vocabulary(["other things altogether"])
    low, high = (
        {word for word in words_of(mishear(text, rate, vocabulary, seed=0, key="")) if word.startswith("word")}
        for rate in (0.2, 0.5)
    )
    assert high < low


def test_what_is_heard_instead_sounds_alike() -> None:
    assert VOCABULARY.similar("night")[0] == "knight"
    assert VOCABULARY.similar("week")[0] == "weak"
    assert VOCABULARY.similar("Sea")[0] == "see"
    assert set(VOCABULARY.similar("to")) >= {"two", "too"}
    assert "night" not in VOCABULARY.similar("night")


def test_closeness_is_what_the_docstring_says() -> None:
    """Against a search through the whole vocabulary, for words that share a sound."""
    for word in ("right", "letters", "story"):
        first = VOCABULARY.similar(word)[0]

        def apart(other: str, word: str = word) -> float:
            return distance(sound_of(word), sound_of(other)) + distance(word, other) / 2

        assert apart(first) == min(apart(other) for other in VOCABULARY.words if other != word)


def test_capitals_and_signs_stay_with_the_place() -> None:
    heard = {mishear("Night!", 1.0, VOCABULARY, seed=0, key=str(i)) for i in range(200)}
    replaced = {text for text in heard if text and not text.startswith("Night")}
    assert replaced
    assert all(text[0].isupper() and text.endswith("!") for text in replaced)
    shouted = {mishear("NIGHT", 1.0, VOCABULARY, seed=0, key=str(i)) for i in range(200)}
    assert {"KNIGHT"} <= shouted


def test_frequent_words_are_drawn_by_their_share() -> None:
    vocabulary = Vocabulary(["a a a b"])
    drawn = [vocabulary.frequent(chance) for chance in np.arange(0, 1, 0.01)]
    assert drawn.count("a") == 75
    assert drawn.count("b") == 25


def test_han_characters_are_words_without_spaces() -> None:
    vocabulary = Vocabulary(["我很高兴。", "他不好"])
    heard = [mishear("我很高兴。", 1.0, vocabulary, seed=0, key=str(i)) for i in range(50)]
    assert not any(" " in text for text in heard)
    assert word_error_rate(["我很高兴。"] * 50, heard) > 0.6


def test_a_vocabulary_of_one_word_or_none() -> None:
    """There is no other word to hear: it is left out; without any word nothing can be made up."""
    alone = {mishear("yes", 1.0, Vocabulary(["yes"]), seed=0, key=str(i)) for i in range(50)}
    assert alone == {"", "yes yes"}
    assert mishear("yes no", 1.0, Vocabulary([]), seed=0, key="") == "yes no"
