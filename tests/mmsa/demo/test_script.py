from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mmsa.demo.script import PROTOTYPES, Expression, sample_expression, write_script
from mmsa.tasks import MELD_EMOTIONS

valences = st.floats(-3, 3)
sides = st.floats(-1, 1)
expressions = st.builds(Expression, text=st.integers(-3, 3), voice=valences, face=valences, arousal=sides, brow=sides)


@pytest.fixture(scope="module")
def script():
    return write_script(0)


def column(script, name):
    return np.array([getattr(clip.expression, name) for clip in script], float)


@pytest.mark.parametrize(
    ("expression", "sentiment", "emotion", "congruent"),
    [
        (Expression(), 0.0, "neutral", True),
        (Expression(3, 3, 3), 3.0, "joy", True),
        (Expression(-3, -3, -3), -3.0, "disgust", True),
        (Expression(3, -2.0, 2.0, arousal=1.0, brow=-1.0), 1.5, "joy", False),
        (Expression(3, -3, -3, arousal=1.0, brow=-1.0), -1.5, "anger", False),
        (Expression(0, -2, 0, arousal=0.5, brow=0.5), -1.0, "fear", True),
        (Expression(0, -2, 0.5, arousal=-0.5, brow=0.5), -0.75, "sadness", True),
        (Expression(1, 0, 0, arousal=0.3, brow=0.3), 0.5, "surprise", True),
        (Expression(1, 0, 0, arousal=0.3, brow=0.2), 0.5, "neutral", True),
    ],
)
def test_the_rule_by_hand(expression, sentiment, emotion, congruent):
    assert expression.sentiment == pytest.approx(sentiment)
    assert expression.emotion == emotion
    assert expression.congruent is congruent


@given(expressions)
def test_sentiment_keeps_its_range_and_treats_the_modalities_alike(expression):
    assert -3 <= expression.sentiment <= 3
    swapped = Expression(expression.text, expression.face, expression.voice, expression.arousal, expression.brow)
    assert swapped.sentiment == pytest.approx(expression.sentiment)
    assert swapped.congruent == expression.congruent


def test_prototypes_are_clear_cases_of_every_emotion():
    assert set(PROTOTYPES) == set(MELD_EMOTIONS)
    for emotion, expression in PROTOTYPES.items():
        assert expression.emotion == emotion
        assert expression.congruent


def test_sampling_gives_the_wanted_emotion():
    rng = np.random.default_rng(0)
    for emotion, _ in product(MELD_EMOTIONS, range(20)):
        assert sample_expression(emotion, rng).emotion == emotion


def test_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"emotion must be one of .*anger, not 'rage'"):
        sample_expression("rage", np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"brow must lie in \[-1, 1\], not 1.5"):
        Expression(brow=1.5)
    with pytest.raises(ValueError, match="seed must be 0 or more, not -1"):
        write_script(-1)
    with pytest.raises(ValueError, match="clips_per_speaker must be 1 or more, not 0"):
        write_script(0, 0)


def test_size_and_balance(script):
    assert len(script) == 320
    per_speaker = {}
    for clip in script:
        per_speaker.setdefault(clip.speaker.id, Counter())[clip.expression.emotion] += 1
    one = dict.fromkeys(MELD_EMOTIONS, 2) | {"joy": 4}
    assert all(counts == one for counts in per_speaker.values())


def test_same_seed_same_script_and_other_seed_other_script(script):
    assert write_script(0) == script
    other = write_script(1)
    assert sum(a.expression == b.expression for a, b in zip(script, other, strict=True)) < 10
    assert [clip.id for clip in other] == [clip.id for clip in script]


def test_a_shorter_script_is_the_start_of_each_speakers_longer_one(script):
    longer = {clip.id: clip for clip in write_script(0, 40)}
    assert all(longer[clip.id] == clip for clip in [*script, *write_script(0, 2)])


def test_each_modality_tells_part_of_the_sentiment_and_none_tells_it_all(script):
    sentiment = column(script, "sentiment")
    for name in ("text", "voice", "face"):
        assert 0.5 < np.corrcoef(column(script, name), sentiment)[0, 1] < 0.75
    pairs = [("text", "voice"), ("text", "face"), ("voice", "face")]
    assert all(abs(np.corrcoef(column(script, a), column(script, b))[0, 1]) < 0.35 for a, b in pairs)
    together = column(script, "text") + column(script, "voice") + column(script, "face")
    assert np.corrcoef(together, sentiment)[0, 1] > 0.98


def test_about_a_third_of_the_clips_contradict_themselves(script):
    assert 0.25 < np.mean([not clip.expression.congruent for clip in script]) < 0.5


def test_a_lexicon_recovers_the_words_valence(script):
    judge = SentimentIntensityAnalyzer()
    scores = [judge.polarity_scores(clip.transcript)["compound"] for clip in script]
    assert np.corrcoef(scores, column(script, "text"))[0, 1] > 0.85


def test_test_speakers_say_new_sentences(script):
    heard = {clip.transcript for clip in script if clip.split == "train"}
    test = [clip.transcript for clip in script if clip.split == "test"]
    assert sum(text in heard for text in test) <= 0.05 * len(test)
