from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, f1_score

from mmsa.metrics import compute_metrics, pearson
from mmsa.tasks import Classification, Regression, Task

MOSI = Regression("sentiment", -3, 3, "mosi")
SIMS = Regression("sentiment", -1, 1, "sims")
PLAIN = Regression("arousal", 0, 1, "plain")
FOUR = Classification("emotion", ("a", "b", "c", "d"))


def metrics_of(task: Task, prediction: Sequence[float], truth: Sequence[float]) -> dict[str, float]:
    """As the framework calls it: predictions and labels in single precision."""
    return compute_metrics(task, np.array(prediction, np.float32)[:, None], np.array(truth, np.float32))


def classified(guess: Sequence[int], truth: Sequence[float], classes: int = 4) -> dict[str, float]:
    """Metrics of logits whose largest is at `guess`."""
    logits = np.full((len(guess), classes), -1.0, np.float32)
    logits[np.arange(len(guess)), list(guess)] = 0.5
    return compute_metrics(FOUR, logits, np.array(truth, np.float32))


def naive_f1(guess: NDArray[np.int_], truth: NDArray[np.int_], key: int) -> float:
    hits = int(((guess == key) & (truth == key)).sum())
    wrong = int(((guess == key) ^ (truth == key)).sum())
    return 2 * hits / (2 * hits + wrong) if hits else 0.0


class TestMosi:
    TRUTH = (-2.0, -0.6, 0.0, 0.0, 1.5, 2.5, 3.0)
    GUESS = (-1.5, 0.2, 0.1, 0.3, 0.5, 3.4, 2.5)

    @pytest.fixture
    def found(self) -> dict[str, float]:
        return metrics_of(MOSI, self.GUESS, self.TRUTH)

    def test_has0_is_negative_against_the_rest_over_all_clips(self, found: dict[str, float]) -> None:
        # One mistake: -0.6 guessed as 0.2. Non-negative: 5 hits, 1 false; negative: 1 hit, 1 overlooked.
        assert found["acc_2_has0"] == pytest.approx(6 / 7)
        assert found["f1_has0"] == pytest.approx((5 * 10 / 11 + 2 * 2 / 3) / 7)

    def test_non0_leaves_true_zeros_out(self, found: dict[str, float]) -> None:
        # Five clips remain. Positive: 3 hits, 1 false; negative: 1 hit, 1 overlooked.
        assert found["acc_2_non0"] == pytest.approx(4 / 5)
        assert found["f1_non0"] == pytest.approx((3 * 6 / 7 + 2 * 2 / 3) / 5)

    def test_acc_7_rounds_half_to_even_within_three(self, found: dict[str, float]) -> None:
        # Truth -2 -1 0 0 2 2 3 (1.5 and 2.5 both go to 2), guess -2 0 0 0 0 3 2.
        assert found["acc_7"] == pytest.approx(3 / 7)

    def test_acc_5_rounds_half_to_even_within_two(self, found: dict[str, float]) -> None:
        # Truth -2 -1 0 0 2 2 2, guess -2 0 0 0 0 2 2.
        assert found["acc_5"] == pytest.approx(5 / 7)

    def test_mae_does_not_clip(self, found: dict[str, float]) -> None:
        assert found["mae"] == pytest.approx((0.5 + 0.8 + 0.1 + 0.3 + 1.0 + 0.9 + 0.5) / 7)
        assert metrics_of(MOSI, [7.0], [3.0])["mae"] == 4.0

    @pytest.mark.parametrize(("value", "to"), [(-2.5, -2), (-1.5, -2), (-0.5, 0), (0.5, 0), (1.5, 2), (2.5, 2)])
    def test_halves_go_to_the_even_neighbour(self, value: float, to: float) -> None:
        away = to + math.copysign(1, value) if abs(to) < abs(value) else math.copysign(abs(to) - 1, value)
        assert metrics_of(MOSI, [value], [to])["acc_7"] == 1.0
        assert metrics_of(MOSI, [value], [away])["acc_7"] == 0.0

    def test_a_predicted_zero_is_non_negative_but_not_positive(self) -> None:
        found = metrics_of(MOSI, [0.0], [1.0])
        assert (found["acc_2_has0"], found["acc_2_non0"]) == (1.0, 0.0)

    def test_without_zeros_both_accuracies_agree(self) -> None:
        found = metrics_of(MOSI, [1, -1, 2, 0.5], [1, 1, -2, 3])
        assert found["acc_2_has0"] == found["acc_2_non0"] == 0.5
        assert found["f1_has0"] == found["f1_non0"]

    def test_where_every_truth_is_zero_non0_is_not_reported(self) -> None:
        found = metrics_of(MOSI, [0.1, -0.2], [0, 0])
        assert found["acc_2_has0"] == 0.5
        assert not {"acc_2_non0", "f1_non0"} & set(found)

    def test_one_clip(self) -> None:
        found = metrics_of(MOSI, [1.2], [1.0])
        assert found.pop("mae") == pytest.approx(0.2)
        assert found.pop("corr") == 0.0
        assert found == dict.fromkeys(("acc_7", "acc_5", "acc_2_has0", "f1_has0", "acc_2_non0", "f1_non0"), 1.0)


class TestSims:
    def test_by_hand(self) -> None:
        truth = (-0.8, -0.4, 0.0, 0.2, 0.8, 1.0)
        guess = (-0.9, 0.05, -0.05, 0.2, 0.6, 1.5)
        found = metrics_of(SIMS, guess, truth)
        # Non-positive: 2 hits, 1 guessed positive; positive: 3 hits.
        assert found["acc_2"] == pytest.approx(5 / 6)
        assert found["f1"] == pytest.approx((3 * 4 / 5 + 3 * 6 / 7) / 6)
        # Thirds: truth - - 0 + + +, guess - 0 0 + + +.
        assert found["acc_3"] == pytest.approx(5 / 6)
        # Fifths: truth -- - 0 + ++ ++, guess -- 0 0 + + ++.
        assert found["acc_5"] == pytest.approx(4 / 6)
        assert found["mae"] == pytest.approx((0.1 + 0.45 + 0.05 + 0 + 0.2 + 0) / 6, abs=1e-7)

    def test_correlation_is_of_clipped_values(self) -> None:
        # Clipped, the guesses are -1, 0, 1 and correlate perfectly with the truth.
        assert metrics_of(SIMS, [-9, 0, 2], [-0.5, 0, 0.5])["corr"] == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("metric", "edge"),
        [
            ("acc_2", 0.0),
            *[("acc_3", edge) for edge in (-0.1, 0.1)],
            *[("acc_5", edge) for edge in (-0.7, -0.1, 0.1, 0.7)],
        ],
    )
    def test_an_edge_belongs_to_the_bin_below_it(self, metric: str, edge: float) -> None:
        """In both precisions: 0.1 in single precision lies above 0.1 in double precision."""
        for kind in (np.float32, np.float64):
            truth: NDArray[np.floating[Any]] = np.array([edge], kind)
            below, above = truth[:, None] - 0.01, truth[:, None] + 0.01
            assert compute_metrics(SIMS, below, truth)[metric] == 1.0
            assert compute_metrics(SIMS, above, truth)[metric] == 0.0
            assert compute_metrics(SIMS, truth[:, None], truth)[metric] == 1.0

    def test_acc_2_is_not_mosis(self) -> None:
        """A true 0 counts as non-positive here, and as non-negative there."""
        assert metrics_of(SIMS, [0.5], [0.0])["acc_2"] == 0.0
        assert metrics_of(MOSI, [0.5], [0.0])["acc_2_has0"] == 1.0


class TestPlainAndPearson:
    def test_by_hand(self) -> None:
        # Centred: (-1, 0, 1) and (-1, 1, 0), so r = 1 / 2.
        assert metrics_of(PLAIN, [0.1, 0.2, 0.3], [0.0, 1.0, 0.5]) == pytest.approx(
            {"mae": (0.1 + 0.8 + 0.2) / 3, "corr": 0.5}, abs=1e-6
        )

    @pytest.mark.parametrize(("guess", "truth"), [([1, 1], [0, 1]), ([0, 1], [1, 1]), ([1], [1])])
    def test_undefined_correlation_is_zero(self, guess: list[float], truth: list[float]) -> None:
        assert pearson(np.array(guess, float), np.array(truth, float)) == 0.0

    @settings(deadline=None, derandomize=True)
    @given(
        pairs=st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=20),
        scale=st.sampled_from([0.25, 3.0]),
        shift=st.integers(-9, 9),
    )
    def test_correlation_is_naive_bounded_and_blind_to_scale(
        self, pairs: list[tuple[int, int]], scale: float, shift: int
    ) -> None:
        x, y = np.array(pairs, float).T
        dx, dy = x - x.mean(), y - y.mean()
        power = math.sqrt((dx**2).sum() * (dy**2).sum())
        naive = (dx * dy).sum() / power if len({a for a, _ in pairs}) > 1 and len({b for _, b in pairs}) > 1 else 0.0
        assert pearson(x, y) == pytest.approx(naive, abs=1e-9)
        assert abs(pearson(x, y)) <= 1
        assert pearson(x * scale + shift, y) == pytest.approx(pearson(x, y), abs=1e-9)
        assert pearson(-x, y) == pytest.approx(-pearson(x, y), abs=1e-9)


class TestClassification:
    def test_by_hand(self) -> None:
        # Confusion, true class by row: [3 1 0], [0 2 1], [0 1 0]; class d occurs nowhere.
        found = classified([0, 0, 0, 1, 1, 1, 2, 1], [0, 0, 0, 0, 1, 1, 1, 2])
        f1 = (2 * 3 / (2 * 3 + 1), 2 * 2 / (2 * 2 + 3), 0.0)
        assert found == pytest.approx(
            {
                "accuracy": 5 / 8,
                "weighted_f1": (4 * f1[0] + 3 * f1[1] + 1 * f1[2]) / 8,
                "macro_f1": sum(f1) / 3,
                "uar": (3 / 4 + 2 / 3 + 0) / 3,
            }
        )

    def test_a_class_that_is_only_predicted_counts_in_macro_f1_alone(self) -> None:
        found = classified([0, 3], [0, 0])
        # Class a: 1 hit, 1 overlooked; class d: 1 false.
        assert found == pytest.approx({"accuracy": 0.5, "weighted_f1": 2 / 3, "macro_f1": 1 / 3, "uar": 0.5})

    def test_a_constant_prediction(self) -> None:
        found = classified([0] * 4, [0, 0, 0, 1])
        assert found == pytest.approx({"accuracy": 0.75, "weighted_f1": 0.75 * 6 / 7, "macro_f1": 3 / 7, "uar": 0.5})

    @settings(deadline=None, derandomize=True, max_examples=60)
    @given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=25))
    def test_against_the_confusion_and_scikit_learn(self, pairs: list[tuple[int, int]]) -> None:
        guess, truth = np.array(pairs).T
        found = classified(guess.tolist(), truth.tolist())
        f1 = {key: naive_f1(guess, truth, key) for key in range(4)}
        shown = set(guess) | set(truth)
        assert found["weighted_f1"] == pytest.approx(sum(f1[key] for key in truth) / len(truth))
        assert found["macro_f1"] == pytest.approx(sum(f1[key] for key in shown) / len(shown))
        assert found["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro", zero_division=0))
        assert found["weighted_f1"] == pytest.approx(f1_score(truth, guess, average="weighted", zero_division=0))
        recalls = [float((guess[truth == key] == key).mean()) for key in sorted(set(truth))]
        assert found["uar"] == pytest.approx(sum(recalls) / len(recalls))
        if len(set(truth)) > 1 and set(guess) <= set(truth):  # scikit-learn warns otherwise
            assert found["uar"] == pytest.approx(balanced_accuracy_score(truth, guess))


EVERY_TASK = pytest.mark.parametrize("task", [MOSI, SIMS, PLAIN, FOUR], ids=["mosi", "sims", "plain", "classes"])


def made(task: Task, seed: int, clips: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random predictions and labels, labels on a grid that has zeros."""
    random = np.random.default_rng(seed)
    prediction = random.normal(size=(clips, task.output_dim)).astype(np.float32)
    if isinstance(task, Classification):
        return prediction, random.integers(0, task.output_dim, clips).astype(np.float32)
    return prediction, (random.integers(-5, 6, clips) / 5).astype(np.float32)


@EVERY_TASK
@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 10**6), clips=st.integers(1, 20))
def test_metrics_are_bounded_and_blind_to_order(task: Task, seed: int, clips: int) -> None:
    prediction, truth = made(task, seed, clips)
    found = compute_metrics(task, prediction, truth)
    for name, value in found.items():
        low, high = (-1, 1) if name == "corr" else (0, math.inf if name == "mae" else 1)
        assert low <= value <= high, name
    order = np.random.default_rng(seed).permutation(clips)
    assert compute_metrics(task, prediction[order], truth[order]) == pytest.approx(found, abs=1e-9)


@EVERY_TASK
@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 10**6), clips=st.integers(1, 12), unlabelled=st.integers(1, 5))
def test_clips_without_a_label_do_not_count(task: Task, seed: int, clips: int, unlabelled: int) -> None:
    prediction, truth = made(task, seed, clips)
    more, _ = made(task, seed + 1, unlabelled)
    order = np.random.default_rng(seed).permutation(clips + unlabelled)
    both = np.concatenate([prediction, more])[order]
    labels = np.concatenate([truth, np.full(unlabelled, np.nan, np.float32)])[order]
    expected = compute_metrics(task, prediction, truth)
    assert compute_metrics(task, both, labels) == pytest.approx(expected, abs=1e-9)


@EVERY_TASK
def test_without_any_label_there_are_no_metrics(task: Task) -> None:
    prediction, _ = made(task, 0, 3)
    assert compute_metrics(task, prediction, np.full(3, np.nan, np.float32)) == {}


@EVERY_TASK
def test_the_truth_itself_scores_best(task: Task) -> None:
    _, truth = made(task, 4, 40)
    prediction = np.eye(4, dtype=np.float32)[truth.astype(int)] if isinstance(task, Classification) else truth[:, None]
    found = compute_metrics(task, prediction, truth)
    assert found.pop("mae", 0.0) == 0.0
    assert found == pytest.approx(dict.fromkeys(found, 1.0))
