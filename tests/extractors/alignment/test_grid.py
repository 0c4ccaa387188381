"""Overlap-weighted pooling against a naive loop, and what must hold for any sequence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.alignment.grid import align, regular_grid
from extractors.sequence import FeatureSequence


def sequence(steps: list[tuple[float, float, float]]) -> FeatureSequence:
    """`[(start, length, value)]` → a sequence of one feature."""
    steps = sorted(steps, key=lambda step: step[0])
    times = np.array([[a, a + n] for a, n, _ in steps], np.float64).reshape(-1, 2)
    return FeatureSequence(np.array([[v] for _, _, v in steps], np.float32).reshape(-1, 1), times, ("x",))


def naive(found: FeatureSequence, cell: tuple[float, float]) -> float | None:
    """The definition, step by step."""
    low, high = cell
    weights = [max(0.0, min(high, b) - max(low, a)) for a, b in found.times]
    if sum(weights) > 0:
        return float(np.average(found.values[:, 0], weights=weights))
    inside = [v for (a, b), v in zip(found.times, found.values[:, 0], strict=True) if holds(a, b, low, high)]
    return float(np.mean(inside)) if inside else None


def holds(a: float, b: float, low: float, high: float) -> bool:
    """Whether a step and a cell meet of which one is an instant."""
    if a == b:
        return low <= a < high or low == a == high
    return low == high and a <= low < b


# Quarters are exact in binary, so that touching ends touch.
quarter = st.integers(0, 40).map(lambda n: n / 4)
length = st.integers(0, 12).map(lambda n: n / 4)
steps = st.lists(st.tuples(quarter, length, st.integers(-8, 8).map(float)), max_size=12)
cells = st.lists(st.tuples(quarter, length).map(lambda c: (c[0], c[0] + c[1])), min_size=1, max_size=8)


@given(steps, cells)
@settings(max_examples=300, deadline=None)
def test_pooling_is_the_definition(
    given_steps: list[tuple[float, float, float]], grid: list[tuple[float, float]]
) -> None:
    found = sequence(given_steps)
    aligned = align({"x": found}, np.array(grid))
    for i, cell in enumerate(grid):
        expected = naive(found, cell)
        assert aligned.present["x"][i] == (expected is not None)
        assert aligned.values["x"][i, 0] == pytest.approx(expected or 0.0, abs=1e-6)


@given(steps.filter(bool), st.floats(0.3, 20.0), st.floats(-5, 5))
@settings(deadline=None)
def test_a_constant_stays_constant(given_steps: list[tuple[float, float, float]], rate: float, value: float) -> None:
    found = sequence([(a, n, value) for a, n, _ in given_steps])
    aligned = align({"x": found}, regular_grid(0.0, 14.0, rate))
    kept = aligned.sequence("x", ("x",))
    assert len(kept)
    np.testing.assert_allclose(kept.values, np.float32(value), rtol=1e-6, atol=1e-12)


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=30), st.floats(0.2, 9.0))
@settings(deadline=None)
def test_the_integral_over_time_is_kept(values: list[int], rate: float) -> None:
    """Steps side by side without gaps: cells, weighted by their length, hold as much as the steps did."""
    found = sequence([(i * 0.5, 0.5, float(v)) for i, v in enumerate(values)])
    grid = regular_grid(0.0, len(values) * 0.5, rate)
    aligned = align({"x": found}, grid)
    assert aligned.present["x"].all()
    mass = float(((grid[:, 1] - grid[:, 0]) * aligned.values["x"][:, 0]).sum())
    assert mass == pytest.approx(sum(values) * 0.5, abs=1e-4)


def test_words_as_cells_by_hand() -> None:
    frames = sequence([(0.0, 0.5, 1.0), (0.5, 0.5, 3.0), (2.0, 0.5, 5.0)])
    words = np.array([[0.25, 0.75], [0.9, 1.0], [1.2, 1.8], [1.5, 2.25]])
    aligned = align({"vision": frames, "audio": sequence([])}, words)
    assert aligned.values["vision"][:, 0].tolist() == [2.0, 3.0, 0.0, 5.0]
    assert aligned.present["vision"].tolist() == [True, True, False, True]
    assert not aligned.present["audio"].any()
    assert aligned.sequence("vision", ("x",)).times.tolist() == words[[0, 1, 3]].tolist()


def test_a_still_image_is_in_the_cell_of_its_instant() -> None:
    aligned = align({"vision": sequence([(0.5, 0.0, 7.0)])}, regular_grid(0.0, 2.0, 2.0))
    assert aligned.present["vision"].tolist() == [False, True, False, False]


def test_a_step_that_only_touches_a_cell_is_not_in_it() -> None:
    aligned = align({"x": sequence([(0.0, 1.0, 7.0)])}, np.array([[1.0, 2.0], [1.0, 1.0], [0.5, 0.5]]))
    assert aligned.present["x"].tolist() == [False, False, True]


class TestRegularGrid:
    def test_rounding_adds_no_cell(self) -> None:
        assert len(regular_grid(0.0, 0.3, 10.0)) == 3  # 0.3 * 10 is a little more than 3 in binary
        assert regular_grid(1.0, 1.0, 5.0).shape == (0, 2)

    @pytest.mark.parametrize(
        ("start", "end", "rate"), [(1, 0, 1), (0, 1, 0), (0, np.inf, 1), (np.nan, 1, 1), (0, 1, -2)]
    )
    def test_what_is_no_grid_is_refused(self, start: float, end: float, rate: float) -> None:
        with pytest.raises(ValueError, match="not"):
            regular_grid(start, end, rate)


@pytest.mark.parametrize("times", [np.zeros(3), np.array([[1.0, 0.0]]), np.array([[0.0, np.nan]])])
def test_cells_that_are_none_are_refused(times: np.ndarray) -> None:
    with pytest.raises(ValueError, match="times must be"):
        align({"x": sequence([(0, 1, 1)])}, times)
