"""`Lexical` against VADER's published rules and arithmetic done by hand."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from extractors.text.lexical import Lexical
from extractors.transcript import Segment, Transcript

READER = Lexical(hash_dim=16)
CUES = Lexical(hash_dim=0)


def read(text: str) -> list[dict[str, float]]:
    sequence = CUES.extract_text(Transcript.of(text))
    return [dict(zip(sequence.names, row, strict=True)) for row in sequence.values.tolist()]


def test_valence_by_the_rules() -> None:
    """Lexicon: good 1.9, bad -2.5; negation -0.74, intensifier 0.293 (Hutto & Gilbert 2014)."""
    (plain,) = read("good")
    assert plain["valence"] == plain["valence_in_context"] == pytest.approx(1.9)
    assert plain["in_lexicon"] == 1
    _, good = read("not good")
    assert good["valence"] == pytest.approx(1.9)
    assert good["valence_in_context"] == pytest.approx(1.9 * -0.74)
    assert good["negated"] == 1
    very, good = read("very good")
    assert very["intensifier"] == pytest.approx(0.293)
    assert good["valence_in_context"] == pytest.approx(1.9 + 0.293)
    good, _, bad = read("good but bad")
    assert good["valence_in_context"] == pytest.approx(0.95)
    assert bad["valence_in_context"] == pytest.approx(-3.75)
    assert read("the table")[1]["in_lexicon"] == 0


def test_a_repeated_word_is_judged_where_it_stands() -> None:
    found = [row["valence_in_context"] for row in read("good but not that good")]
    assert found == pytest.approx([0.95, 0, 0, 0, 1.9 * -0.74 * 1.5])


def test_negation_reaches_three_words() -> None:
    assert [row["negated"] for row in read("isn't a b c d")] == [0, 1, 1, 1, 0]
    assert [row["negation"] for row in read("I don’t know")] == [0, 1, 0]


def test_sentence_scores_are_vaders() -> None:
    analyzer = SentimentIntensityAnalyzer()
    text = "I LOVE this!! The acting was terrible, though. So what?"
    parts = ["I LOVE this!!", "The acting was terrible, though.", "So what?"]
    expected = [analyzer.polarity_scores(part) for part in parts for _ in part.split()]
    for row, scores in zip(read(text), expected, strict=True):
        for name, key in (("compound", "compound"), ("positive", "pos"), ("negative", "neg"), ("neutral", "neu")):
            assert row[f"sentence_{name}"] == pytest.approx(scores[key], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["good", "bad", "GREAT", "not", "very", "kind", "of", "the", "least", "never", "no", "so", "ok", ":)"]
        ),
        max_size=9,
    )
)
def test_word_valences_make_vaders_sentence_score(words: list[str]) -> None:
    """Without punctuation and "but", the compound is the normalised sum of the words' valences: x / sqrt(x² + 15)."""
    rows = read(" ".join(words))
    total = sum(row["valence_in_context"] for row in rows)
    for row in rows:
        assert row["sentence_compound"] == pytest.approx(total / math.sqrt(total**2 + 15), abs=1e-3)


def test_emoticons_and_emojis_count() -> None:
    lexicon = SentimentIntensityAnalyzer().lexicon
    assert read("fine :)")[1]["valence"] == pytest.approx(lexicon[":)"])
    assert read("today 😁")[1]["valence"] == pytest.approx(lexicon["smiling"], abs=0.01)


def test_style_cues() -> None:
    rows = read("Sooo GREAT!!! Really? Well, maybe... I")
    assert [row["elongated"] for row in rows] == [1, 0, 0, 0, 0, 0]
    assert [row["upper_case"] for row in rows] == [0, 1, 0, 0, 0, 0]
    assert [row["capitalised"] for row in rows] == [1, 0, 1, 1, 0, 0]
    assert [row["exclamation_marks"] for row in rows] == [0, 3, 0, 0, 0, 0]
    assert [row["question_marks"] for row in rows] == [0, 0, 1, 0, 0, 0]
    assert [row["pause_mark"] for row in rows] == [0, 0, 0, 1, 0, 0]
    assert [row["stop_mark"] for row in rows] == [0, 0, 0, 0, 1, 0]
    assert rows[0]["word_length_log"] == pytest.approx(math.log(5))
    assert [row["sentence_position"] for row in rows] == [0, 1, 0, 0, 1, 0]


def test_marks_that_stand_alone_belong_to_the_word_before() -> None:
    rows = read("great !!! - yes")
    assert len(rows) == 2
    assert rows[0]["exclamation_marks"] == 3
    assert len(read("— !!")) == 0


def test_hashing_by_hand() -> None:
    vector = np.zeros(16)
    for part in ("<ok>", "<ok", "ok>"):
        digest = int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
        vector[(digest >> 1) % 16] += 1 if digest % 2 else -1
    hashed = READER.extract_text(Transcript.of("OK, nice")).values[:, -16:]
    assert np.allclose(hashed[0], vector / math.sqrt(3))
    assert not np.allclose(hashed[0], hashed[1])


def test_words_that_look_alike_lie_close() -> None:
    rows = Lexical(hash_dim=512).extract_text(Transcript.of("wonderful wonderfully terrible")).values[:, -512:]
    assert rows[0] @ rows[1] > 0.5 > 3 * abs(rows[0] @ rows[2])


def test_sentences_run_across_segments() -> None:
    split = Transcript((Segment("I am not", 0.0, 1.0), Segment("good.", 1.5, 2.0)))
    sequence = CUES.extract_text(split)
    assert sequence.values[3, CUES.names.index("valence_in_context")] == pytest.approx(1.9 * -0.74)
    assert sequence.times[3].tolist() == [1.5, 2.0]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80))
def test_any_text_gives_finite_features(text: str) -> None:
    sequence = READER.extract_text(Transcript.of(text), 0.0, 10.0)
    assert sequence.dim == len(READER.names)
    assert np.array_equal(sequence.values, READER.extract_text(Transcript.of(text), 0.0, 10.0).values)


def test_dimension() -> None:
    assert len(READER.names) == len(CUES.names) + 16
    assert READER.extract_text(Transcript()).values.shape == (0, len(READER.names))
    with pytest.raises(ValueError, match="hash_dim must be a number from 0 to 4096, not -1"):
        Lexical(hash_dim=-1)
