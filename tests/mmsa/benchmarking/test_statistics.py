"""Intervals and tests against scipy, hand-worked cases and simulations whose truth is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mmsa.benchmarking.statistics import (
    FastMeasure,
    SlowMeasure,
    bootstrap_interval,
    clusters_of,
    holm,
    measure,
    paired_test,
)
from mmsa.tasks import Classification, Regression

TASK = Regression("sentiment", -3, 3, "mosi")


def of_errors(*seeds: np.ndarray, members: np.ndarray | None = None) -> FastMeasure | SlowMeasure:
    """The MAE of predictions that miss zero by these errors."""
    labels = np.zeros(len(seeds[0]), np.float32)
    own = np.arange(len(labels)) if members is None else members
    return measure(TASK, "mae", [errors[:, None] for errors in seeds], labels, own)


def errors(seed: int, count: int = 40, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, count)


def test_bca_is_scipys() -> None:
    """The same definition on other draws: the ends agree to what 40,000 resamples leave open."""
    skewed = np.random.default_rng(0).exponential(1.0, 50)
    found = bootstrap_interval(of_errors(skewed), resamples=40_000)
    expected = scipy.stats.bootstrap(
        (skewed,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.method == "BCa"
    assert found.low == pytest.approx(expected.low, abs=0.01)
    assert found.high == pytest.approx(expected.high, abs=0.015)
    percentile = scipy.stats.bootstrap(
        (skewed,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert abs(percentile.high - expected.high) > 0.05, "the case must tell BCa from percentiles"


def test_clusters_are_drawn_whole() -> None:
    """With every clip there ten times, the interval is that of the clips alone; clip by clip it would be narrower."""
    alone = errors(3, 30)
    copies = np.repeat(alone, 10)
    whole = bootstrap_interval(of_errors(alone))
    clustered = bootstrap_interval(of_errors(copies, members=np.repeat(np.arange(30), 10)))
    naive = bootstrap_interval(of_errors(copies))
    assert (clustered.low, clustered.high) == pytest.approx((whole.low, whole.high), abs=1e-9)
    assert naive.high - naive.low < 0.5 * (whole.high - whole.low)


def test_no_interval_where_there_is_none() -> None:
    one = bootstrap_interval(of_errors(errors(0, 8), members=np.zeros(8, int)))
    assert np.isnan(one.low)
    assert np.isnan(one.high)
    constant = bootstrap_interval(of_errors(np.full(8, 0.5)))
    assert (constant.low, constant.high, constant.method) == (0.5, 0.5, "percentile")


@pytest.mark.parametrize("members", [None, np.repeat(np.arange(60), 2)])
def test_intervals_hold_the_truth_as_often_as_they_say(members: np.ndarray | None) -> None:
    """200 samples from a known distribution: 95 % of intervals, within four standard errors."""
    count = 60 if members is None else 120
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shared = rng.exponential(1.0, 60)
        found = bootstrap_interval(
            of_errors(shared if members is None else shared[members] + 0.0 * rng.random(count), members=members),
            resamples=399,
            seed=seed,
        )
        inside += found.low <= 1.0 <= found.high
    assert inside / 200 >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)
    assert inside < 200


def test_few_clips_are_enumerated_as_scipy_does() -> None:
    first, second = errors(1, 9), errors(2, 9)
    expected = scipy.stats.permutation_test(
        (first, second), lambda a, b: a.mean() - b.mean(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert paired_test(of_errors(first), of_errors(second)) == pytest.approx(expected, abs=1e-12)


def test_many_clips_are_drawn_as_scipy_does() -> None:
    first, second = errors(1, 80), errors(2, 80, high=1.15)
    expected = scipy.stats.permutation_test(
        (first, second),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=np.random.default_rng(0),
    ).pvalue
    found = paired_test(of_errors(first), of_errors(second), resamples=20_000)
    assert 0.01 < expected < 0.6
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected / 20_000) * 2)


def test_a_hand_worked_p() -> None:
    """Three clips, each better by 1: only all or none exchanged reach the difference, 2 of 8."""
    ones = np.ones(3)
    assert paired_test(of_errors(ones), of_errors(2 * ones)) == pytest.approx(2 / 8)
    # As one cluster and one clip by itself: 2 of 4.
    members = np.array([0, 0, 1])
    assert paired_test(of_errors(ones, members=members), of_errors(2 * ones, members=members)) == pytest.approx(2 / 4)


def test_equal_rows_never_differ() -> None:
    same = of_errors(errors(0))
    assert paired_test(same, same) == 1.0


def test_p_is_never_zero_and_is_symmetric() -> None:
    good, bad = of_errors(errors(0, 100)), of_errors(errors(1, 100) + 1)
    found = paired_test(good, bad, resamples=999)
    assert found == pytest.approx(1 / 1000)
    near = of_errors(errors(1, 100, high=1.1))
    assert paired_test(good, near) == paired_test(near, good)


def simulate(seed: int, effect: float, spread: float = 0.0) -> tuple[float, float]:
    """p by clusters and by clips of two rows on 30 clusters of 4 clips; `spread` is what a cluster's clips share."""
    rng = np.random.default_rng(seed)
    members = np.repeat(np.arange(30), 4)
    gap = effect + spread * rng.normal(size=30)[members] + rng.normal(size=120)
    middle = 20.0
    first, second = middle + gap / 2, middle - gap / 2
    pair = [of_errors(v, members=members) for v in (first, second)]
    alone = [of_errors(v) for v in (first, second)]
    return paired_test(*pair, resamples=299, seed=seed), paired_test(*alone, resamples=299, seed=seed)


def test_type_one_error_is_nominal() -> None:
    """300 pairs of rows that differ by chance alone, clips of a cluster alike: 5 % within three standard errors."""
    found = np.array([simulate(seed, 0.0, spread=1.5) for seed in range(300)])
    by_cluster, by_clip = (found <= 0.05).mean(axis=0)
    assert abs(by_cluster - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 300)
    assert by_clip > 0.15, "clips exchanged one by one find differences that are not there"


def test_power_on_a_clear_difference() -> None:
    found = [simulate(seed, 0.6)[0] for seed in range(40)]
    assert np.mean(np.array(found) < 0.05) > 0.9


def test_a_metric_that_is_no_mean_is_computed_on_exchanged_predictions() -> None:
    """Weighted F1 by hand: all exchanges of four clips, enumerated here with scikit-learn."""
    from sklearn.metrics import f1_score

    task = Classification("emotion", ("a", "b"))
    truth = np.array([0, 0, 1, 1])
    first, second = np.array([0, 0, 1, 0]), np.array([1, 0, 0, 1])
    rows = [measure(task, "weighted_f1", [np.eye(2)[g]], truth.astype(float), np.arange(4)) for g in (first, second)]

    def gap(swap: np.ndarray) -> float:
        a, b = np.where(swap, second, first), np.where(swap, first, second)
        return float(f1_score(truth, a, average="weighted") - f1_score(truth, b, average="weighted"))

    swaps = [np.array([(n >> i) & 1 == 1 for i in range(4)]) for n in range(16)]
    gaps = np.array([abs(gap(swap)) for swap in swaps])
    expected = (gaps >= gaps[0] - 1e-12).mean()
    assert paired_test(*rows) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["mae", "corr", "f1_non0"])
def test_the_slow_way_gives_the_same_numbers(name: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.round(rng.uniform(-3, 3, 24)).astype(np.float32)
    members = np.repeat(np.arange(8), 3)
    outputs = [[(labels + rng.normal(0, s, 24))[:, None] for _ in range(2)] for s in (0.8, 1.2)]
    fast = [measure(TASK, name, own, labels, members) for own in outputs]
    slow = [measure(TASK, name, own, labels, members, fast=False) for own in outputs]
    assert all(isinstance(one, FastMeasure) for one in fast)
    assert all(isinstance(one, SlowMeasure) for one in slow)
    assert paired_test(*fast, resamples=300) == paired_test(*slow, resamples=300)
    a, b = (bootstrap_interval(one, resamples=200) for one in (fast[0], slow[0]))
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=1e-6)


def test_seeds_are_averaged_as_metrics_and_not_as_predictions() -> None:
    """Two seeds that miss by 1 on either side: each has an MAE of 1, their mean prediction would have 0."""
    labels = np.zeros(5, np.float32)
    both = measure(TASK, "mae", [np.ones((5, 1)), -np.ones((5, 1))], labels, np.arange(5))
    assert both.weighted(np.ones((1, 5)))[0] == pytest.approx(1.0)


def test_rows_must_share_their_clusters() -> None:
    with pytest.raises(ValueError, match="the same clusters, not 5 and 6"):
        paired_test(of_errors(errors(0, 5)), of_errors(errors(0, 6)))


def test_holm_by_hand() -> None:
    """Holm's own scheme: the smallest times 4, the next times 3, never falling, never above 1."""
    assert holm([0.01, 0.3, 0.02, 0.9]) == pytest.approx([0.04, 0.6, 0.06, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_only_raises(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    in_order = [a for _, a in sorted(zip(p_values, adjusted, strict=True))]
    assert all(a <= b for a, b in pairwise(in_order))
    bonferroni = [min(1.0, p * len(p_values)) for p in p_values]
    assert all(a <= b + 1e-12 for a, b in zip(adjusted, bonferroni, strict=True))


def test_clusters_are_numbered_as_they_come() -> None:
    assert clusters_of(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
