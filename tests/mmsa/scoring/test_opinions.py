"""What classifiers say together, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmsa.scoring.ensemble import EMOTIONS, Label
from mmsa.scoring.opinions import LabelMap, Opinion, pool, pool_emotions, pool_valence, shapley

VALENCE = {"anger": -1.0, "disgust": -1.0, "fear": -1.0, "joy": 1.0, "neutral": 0.0, "sadness": -1.0, "surprise": 0.0}
ONCE = np.ones(1)


def vector(**shares: float) -> np.ndarray:
    return np.array([shares.get(name, 0.0) for name in EMOTIONS])


def opinion(weight: float = 1.0, valence: float = 0.0, **shares: float) -> Opinion:
    """Of a classifier that knows just the emotions that are named."""
    return Opinion(vector(**shares), vector(**dict.fromkeys(shares, 1.0)) > 0, weight, valence, weight)


ALL = opinion(anger=0.1, disgust=0.1, fear=0.4, joy=0.2, neutral=0.1, sadness=0.05, surprise=0.05)


def test_of_classifiers_that_know_all_the_weighted_mean_is_taken() -> None:
    other = opinion(3.0, anger=0.3, disgust=0.1, fear=0.1, joy=0.1, neutral=0.2, sadness=0.1, surprise=0.1)
    found = pool_emotions([ALL, other])
    assert np.allclose(found, (ALL.emotions + 3 * other.emotions) / 4, atol=1e-12)


def test_a_classifier_of_few_emotions_shares_out_only_what_these_have_together() -> None:
    """One that knows all gives fear 0.4 and to neutral, joy, anger and sadness 0.45 together.

    Fear, disgust and surprise stay as they are. Of the 0.45, half the votes (weight 1 of 2) go by the second's shares:
    neutral 0.45 · 0.7 / 2 + 0.1 / 2, and so on.
    """
    few = opinion(neutral=0.7, joy=0.1, anger=0.1, sadness=0.1)
    expected = vector(
        fear=0.4, disgust=0.1, surprise=0.05,
        neutral=0.45 * 0.7 / 2 + 0.1 / 2, joy=0.45 * 0.1 / 2 + 0.2 / 2,
        anger=0.45 * 0.1 / 2 + 0.1 / 2, sadness=0.45 * 0.1 / 2 + 0.05 / 2,
    )  # fmt: skip
    assert np.allclose(pool_emotions([ALL, few]), expected, atol=1e-12)
    assert np.allclose(pool_emotions([few, ALL]), expected, atol=1e-12)


def test_two_that_know_different_emotions_are_joined_by_what_both_know() -> None:
    """joy : anger = 0.8 : 0.2 by the first, joy : fear = 1 : 1 by the second, so joy : anger : fear = 4 : 1 : 4."""
    found = pool_emotions([opinion(joy=0.8, anger=0.2), opinion(joy=0.5, fear=0.5)])
    assert np.allclose(found, vector(joy=4 / 9, anger=1 / 9, fear=4 / 9), atol=1e-12)


def test_two_that_share_no_emotion_keep_equal_chances_by_emotion() -> None:
    """Nothing tells how the two kinds compare: two emotions here, three there."""
    found = pool_emotions([opinion(joy=0.8, anger=0.2), opinion(fear=0.5, sadness=0.25, neutral=0.25)])
    assert np.allclose(found, vector(joy=0.32, anger=0.08, fear=0.3, sadness=0.15, neutral=0.15), atol=1e-12)


def test_one_alone_is_believed() -> None:
    few = opinion(0.2, neutral=0.7, joy=0.3)
    assert np.allclose(pool_emotions([few]), few.emotions, atol=1e-12)


def test_the_definition_holds_for_three_that_overlap() -> None:
    """The fixed point of the docstring, put in: weights far apart, each knows other emotions."""
    opinions = [
        opinion(1.0, joy=0.6, anger=0.3, neutral=0.1),
        opinion(1e-4, neutral=0.2, sadness=0.5, fear=0.3),
        opinion(5.0, fear=0.1, joy=0.1, surprise=0.8),
    ]
    found = pool_emotions(opinions)
    weights = np.array([one.weight for one in opinions]) / sum(one.weight for one in opinions)
    again = sum(
        weight * np.where(one.known, one.emotions * found[one.known].sum(), found)
        for weight, one in zip(weights, opinions, strict=True)
    )
    assert np.allclose(again, found, atol=1e-9)
    assert found.sum() == pytest.approx(1.0)
    assert found[EMOTIONS.index("disgust")] == 0.0


def test_valence_is_the_weighted_mean() -> None:
    assert pool_valence([opinion(1.0, 0.5, joy=1.0), opinion(3.0, -0.5, joy=1.0)]) == pytest.approx(-0.25)


class TestLabelMap:
    def read(self, labels: dict[str, object], shares: list[list[float]], seconds: list[float]) -> Opinion | None:
        meant = [Label.model_validate(one) for one in labels.values()]
        return LabelMap(meant, VALENCE, 2.0).read(np.array(shares, np.float32), np.array(seconds))

    def test_labels_of_one_emotion_add_up(self) -> None:
        found = self.read({"love": "joy", "joy": "joy", "ang": "anger"}, [[0.2, 0.3, 0.5]], [1.0])
        assert found is not None
        assert np.allclose(found.emotions, vector(joy=0.5, anger=0.5), atol=1e-6)
        assert found.known.tolist() == (vector(joy=1, anger=1) > 0).tolist()
        assert (found.weight, found.valence, found.valence_weight) == pytest.approx((2.0, 0.0, 2.0), abs=1e-6)

    def test_steps_count_by_how_long_they_last(self) -> None:
        found = self.read({"hap": "joy", "ang": "anger"}, [[1.0, 0.0], [0.0, 1.0]], [3.0, 1.0])
        assert found is not None
        assert np.allclose(found.emotions, vector(joy=0.75, anger=0.25), atol=1e-6)
        assert found.valence == pytest.approx(0.5)
        alike = self.read({"hap": "joy", "ang": "anger"}, [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
        assert alike is not None
        assert np.allclose(alike.emotions, vector(joy=0.5, anger=0.5), atol=1e-6)

    def test_independent_labels_are_divided_by_their_sum(self) -> None:
        found = self.read({"hap": "joy", "ang": "anger"}, [[0.9, 0.3]], [1.0])
        assert found is not None
        assert np.allclose(found.emotions, vector(joy=0.75, anger=0.25), atol=1e-6)

    def test_what_goes_to_labels_without_an_emotion_is_weight_lost(self) -> None:
        found = self.read({"hap": "joy", "ang": "anger", "other": None}, [[0.3, 0.1, 0.6]], [1.0])
        assert found is not None
        assert np.allclose(found.emotions, vector(joy=0.75, anger=0.25), atol=1e-6)
        assert (found.weight, found.valence, found.valence_weight) == pytest.approx((0.8, 0.5, 0.8), abs=1e-6)
        assert self.read({"hap": "joy", "ang": "anger", "other": None}, [[0.0, 0.0, 1.0]], [1.0]) is None

    def test_labels_between_emotions_and_with_a_valence_of_their_own(self) -> None:
        labels = {
            "contempt": {"emotion": {"anger": 0.5, "disgust": 0.5}},
            "calm": {"emotion": "neutral", "valence": 0.4},
        }
        found = self.read(labels, [[0.5, 0.5]], [1.0])
        assert found is not None
        assert np.allclose(found.emotions, vector(anger=0.25, disgust=0.25, neutral=0.5), atol=1e-6)
        assert found.valence == pytest.approx(0.5 * -1 + 0.5 * 0.4)

    def test_a_label_may_tell_of_valence_alone(self) -> None:
        labels = {"hap": "joy", "good": {"emotion": None, "valence": 0.5}}
        found = self.read(labels, [[0.5, 0.5]], [1.0])
        assert found is not None
        assert (found.weight, found.valence, found.valence_weight) == pytest.approx((1.0, 0.75, 2.0), abs=1e-6)


class TestShapley:
    def test_two_by_hand(self) -> None:
        """Half of what each does alone, half of what it adds to the other; from 0 and all emotions alike."""
        one, two = opinion(1.0, 1.0, joy=1.0, anger=0.0), opinion(3.0, -0.2, joy=0.5, anger=0.5)
        empty, first, second, both = pool([]), pool([one]), pool([two]), pool([one, two])
        assert empty.tolist() == [0.0, *[1 / 7] * 7]
        assert both[0] == pytest.approx(0.1)
        moved = shapley({"text": one, "audio": two})
        assert np.allclose(moved["text"], (first - empty + both - second) / 2)
        assert moved["audio"][0] == pytest.approx((-0.2 + 0.1 - 1.0) / 2)

    def test_three_sum_to_the_distance_from_nothing(self) -> None:
        opinions = {
            "text": ALL,
            "audio": opinion(2.0, 0.3, neutral=0.7, joy=0.3),
            "vision": opinion(0.5, -1.0, fear=1.0),
        }
        moved = shapley(opinions)
        assert np.allclose(sum(moved.values()), pool(list(opinions.values())) - pool([]), atol=1e-12)
        twins = shapley({"a": ALL, "b": ALL, "c": opinions["audio"]})
        assert np.allclose(twins["a"], twins["b"])
