from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import pearsonr
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    r2_score,
)

from mmsa.errors import UsageError
from mmsa.metrics import (
    DIRECTIONS,
    PER_CLASS_LIMIT,
    class_keys,
    classification_metrics,
    compute_metrics,
    concordance,
    confusion,
    determination,
    direction,
    headline,
    metric_names,
    pearson,
    per_class,
)
from mmsa.tasks import Classification, MultiLabel, Regression, Task

MOSI = Regression("sentiment", -3, 3, "mosi")
SIMS = Regression("sentiment", -1, 1, "sims")
SIMSV2 = Regression("sentiment", -1, 1, "simsv2")
PLAIN = Regression("arousal", 0, 1, "plain")
FOUR = Classification("emotion", ("a", "b", "c", "d"))
MOODS = MultiLabel("moods", ("happy", "sad", "angry"))
NAN = math.nan


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


class TestSimsV2:
    TRUTH = (-0.8, -0.4, 0.0, 0.2, 0.4, 1.0)
    GUESS = (-0.9, 0.1, -0.2, 0.3, -0.1, 1.5)

    def test_weak_sentiments_lie_within_four_tenths(self) -> None:
        # -0.4 to 0.4: four clips, of which -0.4 is guessed positive and 0.4 is not.
        found = metrics_of(SIMSV2, self.GUESS, self.TRUTH)
        assert found["acc_2_weak"] == pytest.approx(2 / 4)
        assert found["acc_2"] == pytest.approx(4 / 6)

    def test_r2_is_of_clipped_values(self) -> None:
        clipped = [*self.GUESS[:-1], 1.0]
        assert metrics_of(SIMSV2, self.GUESS, self.TRUTH)["r2"] == pytest.approx(r2_score(self.TRUTH, clipped))
        # Deviations -1/2, 0, 1/2 of the truth, errors 1/2, 0, 0: 1 - (1/4) / (1/2).
        assert metrics_of(SIMSV2, [-1.0, 0.0, 0.5], [-0.5, 0.0, 0.5])["r2"] == pytest.approx(0.5)

    def test_without_weak_clips_there_is_no_weak_accuracy(self) -> None:
        assert "acc_2_weak" not in metrics_of(SIMSV2, [0.5, 0.1], [0.9, -0.8])

    def test_the_rest_is_simss(self) -> None:
        mine, old = metrics_of(SIMSV2, self.GUESS, self.TRUTH), metrics_of(SIMS, self.GUESS, self.TRUTH)
        assert {key: mine[key] for key in old} == old

    @pytest.mark.parametrize("truth", [[0.3, 0.3], [0.3]])
    def test_r2_against_a_constant_is_zero(self, truth: list[float]) -> None:
        assert determination(np.array(truth) + 0.1, np.array(truth)) == 0.0


class TestConcordance:
    def test_by_hand(self) -> None:
        # Means 2 and 3, variances 2/3 each, covariance 2/3: 2 (2/3) / (2/3 + 2/3 + 1).
        assert concordance(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])) == pytest.approx((4 / 3) / (7 / 3))

    def test_agreement_and_its_opposite(self) -> None:
        values = np.array([-1.0, 0.0, 1.0])
        assert concordance(values, values) == pytest.approx(1.0)
        assert concordance(-values, values) == pytest.approx(-1.0)

    @pytest.mark.parametrize(("guess", "truth"), [([1, 1], [0, 1]), ([0, 1], [1, 1]), ([1, 1], [1, 1]), ([1], [1])])
    def test_undefined_is_zero(self, guess: list[float], truth: list[float]) -> None:
        assert concordance(np.array(guess, float), np.array(truth, float)) == 0.0

    @settings(deadline=None, derandomize=True)
    @given(pairs=st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=20))
    def test_it_is_one_minus_the_squared_distance_from_the_diagonal_over_that_of_the_unrelated(
        self, pairs: list[tuple[int, int]]
    ) -> None:
        """Lin's own words: 1 - E[(x - y)²] / E[(x - y)²] where x and y are independent; never beyond Pearson's r."""
        x, y = np.array(pairs, float).T
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return
        unrelated = np.mean([(a - b) ** 2 for a in x for b in y])
        assert concordance(x, y) == pytest.approx(1 - ((x - y) ** 2).mean() / unrelated, abs=1e-9)
        assert abs(concordance(x, y)) <= abs(pearsonr(x, y).statistic) + 1e-9
        assert concordance(x, y) == pytest.approx(concordance(y, x), abs=1e-12)


class TestPlainAndPearson:
    def test_by_hand(self) -> None:
        # Centred: (-1, 0, 1) / 10 and (-1, 1, 0) / 2, so r = 1 / 2; variances 2 / 300 and 2 / 12, means 0.3 apart.
        assert metrics_of(PLAIN, [0.1, 0.2, 0.3], [0.0, 1.0, 0.5]) == pytest.approx(
            {"mae": (0.1 + 0.8 + 0.2) / 3, "corr": 0.5, "ccc": 2 * (0.05 / 3) / (2 / 300 + 2 / 12 + 0.09)}, abs=1e-6
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
                "f1_a": f1[0],
                "f1_b": f1[1],
                "f1_c": f1[2],
            }
        )

    def test_a_class_that_is_only_predicted_counts_in_macro_f1_alone(self) -> None:
        found = classified([0, 3], [0, 0])
        # Class a: 1 hit, 1 overlooked; class d: 1 false.
        assert found == pytest.approx(
            {"accuracy": 0.5, "weighted_f1": 2 / 3, "macro_f1": 1 / 3, "uar": 0.5, "f1_a": 2 / 3}
        )

    def test_a_constant_prediction(self) -> None:
        found = classified([0] * 4, [0, 0, 0, 1])
        assert found == pytest.approx(
            {
                "accuracy": 0.75,
                "weighted_f1": 0.75 * 6 / 7,
                "macro_f1": 3 / 7,
                "uar": 0.5,
                "f1_a": 6 / 7,
                "f1_b": 0.0,
            }
        )

    def test_without_names_there_is_nothing_by_class(self) -> None:
        found = classification_metrics(np.eye(4), np.arange(4))
        assert found == dict.fromkeys(("accuracy", "weighted_f1", "macro_f1", "uar"), 1.0)

    def test_with_many_classes_there_is_nothing_by_class(self) -> None:
        names = tuple(map(str, range(PER_CLASS_LIMIT + 1)))
        many = Classification("emotion", names)
        found = compute_metrics(many, np.eye(len(names)), np.arange(len(names), dtype=np.float32))
        assert set(found) == set(metric_names(many)) == {"accuracy", "weighted_f1", "macro_f1", "uar"}
        assert len(per_class(many, np.eye(len(names)), np.arange(len(names), dtype=np.float32))) == len(names)

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
        counts = confusion(guess, truth, 4)
        np.testing.assert_array_equal(counts, confusion_matrix(truth, guess, labels=range(4)))
        reports = per_class(FOUR, np.eye(4)[guess], truth.astype(float))
        precision, recall, own, support = precision_recall_fscore_support(
            truth, guess, labels=range(4), zero_division=0
        )
        for key, report in enumerate(reports):
            assert (report.name, report.support, report.predicted) == ("abcd"[key], support[key], (guess == key).sum())
            assert report.hits == counts[key, key]
            assert report.precision == pytest.approx(precision[key])
            expected = (recall[key], own[key]) if support[key] else (NAN, NAN)
            assert (report.recall, report.f1) == pytest.approx(expected, nan_ok=True)
            assert ("f1_" + "abcd"[key] in found) == bool(support[key])
            assert found.get("f1_" + "abcd"[key], own[key]) == pytest.approx(own[key])


class TestMultiLabel:
    # happy: 2 hits, 1 missed, 0 false, 1 rightly absent; sad: 0, 1, 1, 2; angry: nobody is, 1 false alarm.
    TRUTH = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]], np.float32)
    LOGITS = np.array([[2, -1, -1], [0.1, 3, -2], [-1, -0.5, 1], [-3, -1, -1]], np.float32)

    def test_by_hand(self) -> None:
        found = compute_metrics(MOODS, self.LOGITS, self.TRUTH)
        happy, sad, angry = (3 * 4 / 5 + 1 * 2 / 3) / 4, (1 * 0 + 3 * 4 / 6) / 4, 6 / 7
        assert found == pytest.approx(
            {
                "f1_happy": 4 / 5,
                "weighted_f1_happy": happy,
                "wa_happy": (2 / 3 + 1) / 2,
                "f1_sad": 0.0,
                "weighted_f1_sad": sad,
                "wa_sad": (0 + 2 / 3) / 2,
                "weighted_f1_angry": angry,
                "wa": (5 / 6 + 1 / 3) / 2,
                "weighted_f1": (happy + sad + angry) / 3,
                "micro_f1": 2 * 2 / (2 * 2 + 2 + 2),
                "macro_f1": (4 / 5 + 0 + 0) / 3,
            }
        )

    def test_a_probability_of_one_half_is_not_enough(self) -> None:
        found = compute_metrics(MOODS, np.zeros((1, 3), np.float32), np.array([[1, 0, 0]], np.float32))
        assert (found["f1_happy"], found["weighted_f1_sad"]) == (0.0, 1.0)

    def test_clips_of_which_nothing_is_known_do_not_count(self) -> None:
        truth = np.vstack([self.TRUTH, np.full((2, 3), NAN, np.float32)])
        logits = np.vstack([self.LOGITS, np.full((2, 3), 9.0, np.float32)])
        assert compute_metrics(MOODS, logits, truth) == compute_metrics(MOODS, self.LOGITS, self.TRUTH)
        assert compute_metrics(MOODS, logits[-2:], truth[-2:]) == {}

    def test_where_no_class_holds_and_none_is_predicted_absence_is_all_there_is(self) -> None:
        found = compute_metrics(MOODS, np.full((2, 3), -1.0, np.float32), np.zeros((2, 3), np.float32))
        keys = ("weighted_f1", "weighted_f1_happy", "weighted_f1_sad", "weighted_f1_angry")
        assert found == dict.fromkeys(keys, 1.0)

    @settings(deadline=None, derandomize=True, max_examples=60)
    @given(
        rows=st.lists(st.tuples(*[st.booleans()] * 6), min_size=1, max_size=20),
    )
    def test_against_scikit_learn_and_the_published_formula(self, rows: list[tuple[bool, ...]]) -> None:
        table = np.array(rows)
        guess, truth = table[:, :3], table[:, 3:]
        found = compute_metrics(MOODS, np.where(guess, 0.3, -0.3), truth.astype(np.float32))
        if guess.any() or truth.any():
            assert found["micro_f1"] == pytest.approx(f1_score(truth, guess, average="micro", zero_division=0))
        shown = [i for i in range(3) if guess[:, i].any() or truth[:, i].any()]
        each = [f1_score(truth[:, i], guess[:, i], zero_division=0) for i in range(3)]
        if shown:
            assert found["macro_f1"] == pytest.approx(np.mean([each[i] for i in shown]))
        weighted, accuracies = [], []
        for i, name in enumerate(MOODS.classes):
            weighted.append(f1_score(truth[:, i], guess[:, i], average="weighted", zero_division=0))
            assert found[f"weighted_f1_{name}"] == pytest.approx(weighted[-1])
            assert found.get(f"f1_{name}", NAN) == pytest.approx(each[i] if truth[:, i].any() else NAN, nan_ok=True)
            positives, negatives = int(truth[:, i].sum()), int((~truth[:, i]).sum())
            if positives and negatives:
                hits, rejected = int((guess & truth)[:, i].sum()), int((~guess & ~truth)[:, i].sum())
                accuracies.append((hits * negatives / positives + rejected) / (2 * negatives))
                assert found[f"wa_{name}"] == pytest.approx(accuracies[-1])
                assert accuracies[-1] == pytest.approx(balanced_accuracy_score(truth[:, i], guess[:, i]))
            else:
                assert f"wa_{name}" not in found
        assert found["weighted_f1"] == pytest.approx(np.mean(weighted))
        assert found.get("wa", NAN) == pytest.approx(np.mean(accuracies) if accuracies else NAN, nan_ok=True)
        for i, report in enumerate(per_class(MOODS, np.where(guess, 0.3, -0.3), truth.astype(np.float32))):
            hits = int((guess & truth)[:, i].sum())
            assert (report.support, report.predicted, report.hits) == (truth[:, i].sum(), guess[:, i].sum(), hits)
            assert report.f1 == pytest.approx(each[i] if truth[:, i].any() else NAN, nan_ok=True)


def test_regression_has_no_classes() -> None:
    assert per_class(MOSI, np.zeros((2, 1)), np.zeros(2)) == ()


class TestNames:
    @pytest.mark.parametrize("task", [MOSI, SIMS, SIMSV2, PLAIN, FOUR, MOODS], ids=str)
    def test_the_lists_are_what_is_computed(self, task: Task) -> None:
        """On clips that leave nothing undefined: both signs, zeros, weak and strong, every class and its absence."""
        values = np.array([-1, -0.3, 0, 0.3, 1], np.float32)
        prediction: NDArray[Any] = values[:, None]
        truth: NDArray[Any] = values
        if isinstance(task, Classification):
            prediction, truth = np.eye(4), np.arange(4.0)
        elif isinstance(task, MultiLabel):
            prediction, truth = np.eye(3) - 0.5, np.eye(3)
        assert set(compute_metrics(task, prediction, truth)) == set(metric_names(task))
        assert len(set(metric_names(task))) == len(metric_names(task))
        assert headline(task) in metric_names(task)
        assert not any("." in name for name in metric_names(task))

    @pytest.mark.parametrize("task", [MOSI, SIMS, SIMSV2, PLAIN, FOUR, MOODS], ids=str)
    def test_a_worse_prediction_is_worse_in_the_direction_of_each(self, task: Task) -> None:
        random = np.random.default_rng(0)
        if isinstance(task, Regression):
            truth: NDArray[Any] = random.uniform(task.low, task.high, 300)
            good, bad = (truth + random.normal(0, scale, 300) for scale in (0.05, 2.0))
            pair = good[:, None], bad[:, None]
        else:
            indices = random.integers(0, task.output_dim, 300)
            one_hot = np.eye(task.output_dim)[indices] - 0.5
            truth = indices.astype(float) if isinstance(task, Classification) else one_hot + 0.5
            pair = one_hot, one_hot + random.normal(0, 2, one_hot.shape)
        better, worse = (compute_metrics(task, prediction, truth) for prediction in pair)
        for name in better:
            ahead = better[name] > worse[name]
            assert ahead == (direction(f"{task.name}.{name}") == "max"), name

    def test_a_class_does_not_hide_the_metric(self) -> None:
        assert direction("emotion.f1_mae") == "max"
        assert direction("loss") == direction("mae") == "min"
        assert set(DIRECTIONS.values()) == {"max", "min"}

    @pytest.mark.parametrize("name", ["maee", "emotion.f2_joy", "f1joy", ""])
    def test_an_unknown_metric_is_refused(self, name: str) -> None:
        with pytest.raises(UsageError, match="there is no metric"):
            direction(name)

    @settings(deadline=None, derandomize=True)
    @given(st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=6, unique=True))
    def test_keys_of_classes_are_fit_for_mlflow_and_no_two_are_alike(self, names: list[str]) -> None:
        from mlflow.utils.validation import _validate_metric_name

        keys = class_keys(names)
        assert len(set(keys)) == len(names)
        for key in keys:
            _validate_metric_name(f"test/task.f1_{key}")
            assert "." not in key


EVERY_TASK = pytest.mark.parametrize(
    "task",
    [MOSI, SIMS, SIMSV2, PLAIN, FOUR, MOODS],
    ids=["mosi", "sims", "simsv2", "plain", "classes", "several classes"],
)


def made(task: Task, seed: int, clips: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random predictions and labels, labels on a grid that has zeros."""
    random = np.random.default_rng(seed)
    prediction = random.normal(size=(clips, task.output_dim)).astype(np.float32)
    if isinstance(task, Classification):
        return prediction, random.integers(0, task.output_dim, clips).astype(np.float32)
    if isinstance(task, MultiLabel):
        return prediction, random.integers(0, 2, (clips, task.output_dim)).astype(np.float32)
    return prediction, (random.integers(-5, 6, clips) / 5).astype(np.float32)


@EVERY_TASK
@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 10**6), clips=st.integers(1, 20))
def test_metrics_are_bounded_and_blind_to_order(task: Task, seed: int, clips: int) -> None:
    prediction, truth = made(task, seed, clips)
    found = compute_metrics(task, prediction, truth)
    for name, value in found.items():
        low, high = {"corr": (-1, 1), "ccc": (-1, 1), "r2": (-math.inf, 1), "mae": (0, math.inf)}.get(name, (0, 1))
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
    labels = np.concatenate([truth, np.full((unlabelled, *truth.shape[1:]), np.nan, np.float32)])[order]
    expected = compute_metrics(task, prediction, truth)
    assert compute_metrics(task, both, labels) == pytest.approx(expected, abs=1e-9)


@EVERY_TASK
def test_without_any_label_there_are_no_metrics(task: Task) -> None:
    prediction, truth = made(task, 0, 3)
    assert compute_metrics(task, prediction, np.full_like(truth, np.nan)) == {}


@EVERY_TASK
def test_the_truth_itself_scores_best(task: Task) -> None:
    _, truth = made(task, 4, 40)
    prediction = truth[:, None] if isinstance(task, Regression) else truth - 0.5
    if isinstance(task, Classification):
        prediction = np.eye(4, dtype=np.float32)[truth.astype(int)]
    found = compute_metrics(task, prediction, truth)
    assert found.pop("mae", 0.0) == 0.0
    assert found == pytest.approx(dict.fromkeys(found, 1.0))
