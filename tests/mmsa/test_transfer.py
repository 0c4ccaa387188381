from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsa.corpora.clip import Clip
from mmsa.errors import UsageError
from mmsa.tasks import MELD_EMOTIONS, Classification, Label, MultiLabel, Regression
from mmsa.transfer import map_tasks

MOSI = Regression("sentiment", -3, 3, "mosi")
SIMS = Regression("sentiment", -1, 1, "sims")
MELD = Classification("emotion", MELD_EMOTIONS)


def clip(number: int, **labels: Label) -> Clip:
    return Clip(str(number), "test", labels)


def test_a_task_of_its_own_corpus_is_left_alone() -> None:
    """Bit for bit, so that a run's own test can be repeated exactly."""
    for task in (MOSI, MELD, MultiLabel("emotions", ("joy", "fear"))):
        (found,) = map_tasks([task], [task], "own")
        outputs = np.random.default_rng(0).normal(size=(5, task.output_dim)).astype(np.float32)
        np.testing.assert_array_equal(found.outputs(outputs), outputs)
        assert found.task == task
        assert found.notes == ()


def test_ranges_are_laid_onto_each_other() -> None:
    (found,) = map_tasks([MOSI], [SIMS], "sims")
    np.testing.assert_allclose(found.outputs(np.array([[-3.0], [0.0], [1.5]], np.float32)), [[-1], [0], [0.5]])
    assert found.task == SIMS  # so that the corpus's own metrics are computed
    assert found.notes == ("sentiment: predictions in [-3, 3] are rescaled to the labels' [-1, 1]",)
    np.testing.assert_allclose(found.labels([clip(0, sentiment=0.4), clip(1)]), [0.4, np.nan])


@given(
    st.tuples(st.floats(-50, 50), st.floats(0.5, 50)),
    st.tuples(st.floats(-50, 50), st.floats(0.5, 50)),
    st.floats(0, 1),
)
def test_every_place_in_a_range_keeps_its_share(
    model: tuple[float, float], corpus: tuple[float, float], share: float
) -> None:
    low, other = model[0], corpus[0]
    (found,) = map_tasks([Regression("x", low, low + model[1])], [Regression("x", other, other + corpus[1])], "another")
    value = found.outputs(np.array([[low + share * model[1]]], np.float32))[0, 0]
    assert value == pytest.approx(other + share * corpus[1], abs=1e-3)


def test_classes_are_matched_by_name_whatever_their_order() -> None:
    (found,) = map_tasks(
        [Classification("emotion", ("a", "b", "c"))], [Classification("emotion", ("c", "a", "b"))], "x"
    )
    np.testing.assert_array_equal(found.outputs(np.array([[1, 2, 3]], np.float32)), [[3, 1, 2]])
    np.testing.assert_array_equal(found.labels([clip(0, emotion="c"), clip(1, emotion="b")]), [0, 2])
    assert found.notes == ()


def test_classes_that_only_one_side_has_are_left_out_and_named() -> None:
    theirs = Classification("emotion", ("angry", "happy", "sad", "neutral", "frustrated"))
    (found,) = map_tasks([MELD], [theirs], "theirs")
    assert found.task.classes == ("angry", "happy", "sad", "neutral")  # type: ignore[union-attr]
    order = [MELD_EMOTIONS.index(name) for name in ("anger", "joy", "sadness", "neutral")]
    outputs = np.arange(14, dtype=np.float32).reshape(2, 7)
    np.testing.assert_array_equal(found.outputs(outputs), outputs[:, order])
    labels = found.labels([clip(0, emotion="frustrated"), clip(1, emotion="sad"), clip(2)])
    np.testing.assert_array_equal(labels, [np.nan, 2, np.nan])
    assert found.notes == (
        "emotion: taken as the same (corpus = model): angry = anger, happy = joy, sad = sadness",
        "emotion: the model does not know frustrated: clips with these labels are left out",
        "emotion: the corpus does not have surprise, fear, disgust: the model may not choose them",
    )


def test_a_name_that_both_have_wins_over_another_word_for_it() -> None:
    """A model with both joy and happy: happy is happy, and joy has nobody left."""
    (found,) = map_tasks(
        [Classification("emotion", ("joy", "happy", "sad"))], [Classification("emotion", ("happy", "sad"))], "x"
    )
    np.testing.assert_array_equal(found.outputs(np.array([[1, 2, 3]], np.float32)), [[2, 3]])
    assert found.notes == ("emotion: the corpus does not have joy: the model may not choose them",)


def test_several_classes_at_once_keep_those_that_both_know() -> None:
    (found,) = map_tasks(
        [MultiLabel("emotions", ("joy", "fear"))], [MultiLabel("emotions", ("fear", "envy", "happy"))], "x"
    )
    np.testing.assert_array_equal(found.outputs(np.array([[1, 2]], np.float32)), [[2, 1]])
    labels = found.labels([clip(0, emotions=("happy", "envy")), clip(1, emotions=()), clip(2)])
    np.testing.assert_array_equal(labels, [[0, 1], [0, 0], [np.nan, np.nan]])
    assert "the model does not know envy: these labels are left out" in found.notes[1]


def test_what_cannot_be_compared_is_said() -> None:
    (found,) = map_tasks([MOSI, MELD], [Classification("sentiment", ("negative", "positive")), MELD], "meld")
    assert found.model == MELD
    assert found.notes == ("not judged: sentiment: regression in the model, classification in the corpus",)


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (Regression("valence", 1, 5), "emotion: other has no such labels"),
        (Classification("emotion", ("joyful", "bored")), "have too few in common"),
        (Regression("emotion", 0, 1), "emotion: classification in the model, regression in the corpus"),
    ],
)
def test_nothing_in_common_is_an_error(theirs: Regression | Classification, reason: str) -> None:
    with pytest.raises(UsageError, match="nothing this model learned can be judged on other") as caught:
        map_tasks([MELD], [theirs], "other")
    assert reason in str(caught.value)
    assert f"The model predicts emotion; other has {theirs.name}" in str(caught.value)
