from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import scipy.stats

from mmsa.benchmarking.pooled import Pooled
from mmsa.benchmarking.rows import Row, compare_rows, rank
from mmsa.benchmarking.statistics import holm
from mmsa.recipe import Recipe, make_recipe
from mmsa.tasks import Regression

MakePooled = Callable[..., Pooled]
TASK = Regression("sentiment", -3, 3, "mosi")
METRICS = ("sentiment.mae", "sentiment.corr")
LABELS = np.round(np.random.default_rng(0).uniform(-3, 3, 12))


def noisy(seed: int, scale: float) -> np.ndarray:
    return (LABELS + scale * np.random.default_rng(seed).normal(size=len(LABELS)))[:, None].astype(np.float32)


def recipe(*heads: object, **changes: object) -> Recipe:
    return make_recipe({"heads": list(heads), "seeds": [1, 2], "resamples": 4999, **changes})


def rows_of(chosen: Recipe, pooled: dict[str, Pooled]) -> tuple[dict[str, Row], list[str]]:
    notes: list[str] = []
    members = {name: np.arange(len(own.clips)) for name, own in pooled.items()}
    rows = compare_rows(chosen, pooled, METRICS, members, notes)
    return {row.name: row for row in rows}, notes


def exact_p(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """All 4096 exchanges of twelve clips, both seeds together, one after the other."""

    def mae(outputs: list[np.ndarray]) -> float:
        return float(np.mean([abs(own[:, 0].astype(float) - LABELS).mean() for own in outputs]))

    gaps = []
    for swap in product([False, True], repeat=12):
        taken = np.array(swap)[:, None]
        gaps.append(
            abs(
                mae([np.where(taken, b, a) for a, b in zip(first, second, strict=True)])
                - mae([np.where(taken, a, b) for a, b in zip(first, second, strict=True)])
            )
        )
    return float(np.mean(np.array(gaps) >= gaps[0] - 1e-9))


@pytest.fixture
def outputs() -> dict[str, list[np.ndarray]]:
    return {
        "late": [noisy(1, 1.0), noisy(2, 1.0)],
        "early": [noisy(3, 0.6), noisy(4, 0.6)],
        "tfn": [noisy(5, 1.1), noisy(6, 1.3)],
    }


def test_each_row_is_tested_against_the_reference_and_corrected(
    make_pooled: MakePooled, outputs: dict[str, list[np.ndarray]]
) -> None:
    pooled = {name: make_pooled(TASK, LABELS, own) for name, own in outputs.items()}
    rows, notes = rows_of(recipe("late", "early", "tfn", reference="late"), pooled)
    assert notes == []
    assert rows["late"].values["sentiment.mae"].test is None
    raw = {name: exact_p(outputs[name], outputs["late"]) for name in ("early", "tfn")}
    corrected = dict(zip(raw, holm(list(raw.values())), strict=True))
    for name in raw:
        test = rows[name].values["sentiment.mae"].test
        assert test is not None
        assert (test.p, test.adjusted) == pytest.approx((raw[name], corrected[name]))
        gap = rows[name].values["sentiment.mae"].mean - rows["late"].values["sentiment.mae"].mean
        assert test.difference == pytest.approx(gap)
        assert test.better == (gap < 0)  # of an error, less is better
    corr = rows["early"].values["sentiment.corr"]
    assert corr.test is not None
    assert corr.test.better == (corr.test.difference > 0)  # of a correlation, more
    expected = [scipy.stats.pearsonr(own[:, 0], LABELS).statistic for own in outputs["early"]]
    assert corr.runs == pytest.approx(expected)
    assert corr.std == pytest.approx(np.std(expected, ddof=1))


def test_a_row_can_have_a_reference_of_its_own(make_pooled: MakePooled, outputs: dict[str, list[np.ndarray]]) -> None:
    chosen = recipe("late", "early", {"head": "tfn", "reference": "early"}, reference="late")
    rows, _ = rows_of(chosen, {name: make_pooled(TASK, LABELS, own) for name, own in outputs.items()})
    assert [rows[name].reference for name in ("late", "early", "tfn")] == [None, "late", "early"]
    test = rows["tfn"].values["sentiment.mae"].test
    assert test is not None
    assert test.p == pytest.approx(exact_p(outputs["tfn"], outputs["early"]))


def test_a_head_without_seeds_stands_beside_every_seed(
    make_pooled: MakePooled, outputs: dict[str, list[np.ndarray]]
) -> None:
    svm = make_pooled(TASK, LABELS, [noisy(7, 0.8)])
    object.__setattr__(svm, "seeds", (None,))
    rows, _ = rows_of(
        recipe("late", "svm", reference="late"), {"late": make_pooled(TASK, LABELS, outputs["late"]), "svm": svm}
    )
    test = rows["svm"].values["sentiment.mae"].test
    assert test is not None
    assert test.p == pytest.approx(exact_p([noisy(7, 0.8)] * 2, outputs["late"]))
    assert np.isnan(rows["svm"].values["sentiment.mae"].std)


def test_rows_on_other_clips_or_labels_are_not_compared(
    make_pooled: MakePooled, outputs: dict[str, list[np.ndarray]]
) -> None:
    pooled = {
        "late": make_pooled(TASK, LABELS, outputs["late"]),
        "early": make_pooled(TASK, LABELS, outputs["early"], clips=[f"x{i}" for i in range(12)]),
        "tfn": make_pooled(TASK, -LABELS, outputs["tfn"]),
    }
    rows, notes = rows_of(recipe("late", "early", "tfn", reference="late"), pooled)
    assert all(value.test is None for row in rows.values() for value in row.values.values())
    assert notes == [
        "early is not tested against late: they were tested on different clips.",
        "tfn is not tested against late: their labels of sentiment differ.",
    ]


def test_clips_in_another_order_are_the_same_clips(
    make_pooled: MakePooled, outputs: dict[str, list[np.ndarray]]
) -> None:
    turned = [own[::-1] for own in outputs["early"]]
    names = [f"c{i}" for i in range(12)]
    pooled = {
        "late": make_pooled(TASK, LABELS, outputs["late"]),
        "early": make_pooled(TASK, LABELS[::-1], turned, clips=names[::-1]),
    }
    rows, notes = rows_of(recipe("late", "early", reference="late"), pooled)
    test = rows["early"].values["sentiment.mae"].test
    assert notes == []
    assert test is not None
    assert test.p == pytest.approx(exact_p(outputs["early"], outputs["late"]))


def test_the_best_row_comes_first(make_pooled: MakePooled, outputs: dict[str, list[np.ndarray]]) -> None:
    rows, _ = rows_of(
        recipe("late", "early", "tfn"), {name: make_pooled(TASK, LABELS, own) for name, own in outputs.items()}
    )
    for metric, sign in (("sentiment.mae", 1), ("sentiment.corr", -1)):
        ranked = sorted(rows.values(), key=lambda row: rank(row, metric))
        values = [sign * row.values[metric].mean for row in ranked]
        assert values == sorted(values)
    nothing = make_pooled(TASK, np.full(12, np.nan), outputs["late"])
    lost = rows_of(recipe("late"), {"late": nothing})[0]["late"]
    assert rank(lost, "sentiment.mae") > max(rank(row, "sentiment.mae") for row in rows.values())
