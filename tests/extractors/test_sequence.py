"""`FeatureSequence`: what it refuses and what it cuts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.sequence import FeatureSequence, first_step

NAMES = ("a", "b")


def make(starts: list[float], length: float = 1.0) -> FeatureSequence:
    times = np.array([[s, s + length] for s in starts], np.float64).reshape(-1, 2)
    values = np.arange(2 * len(starts), dtype=np.float32).reshape(-1, 2)
    return FeatureSequence(values, times, NAMES)


@pytest.mark.parametrize(
    ("values", "times", "message"),
    [
        (np.zeros((1, 2)), np.zeros((1, 2)), "float32, not .* float64: cast"),
        (np.zeros((1, 2), np.float32), np.zeros((2, 2)), r"times must be \(1, 2\)"),
        (np.zeros((1, 3), np.float32), np.zeros((1, 2)), "2 names given for 3 features"),
        (np.array([[0, np.nan]], np.float32), np.zeros((1, 2)), "finite: b are not; leave such steps out"),
        (np.zeros((1, 2), np.float32), np.array([[1.0, 0.5]]), "no step may end before it starts"),
        (np.zeros((2, 2), np.float32), np.array([[1.0, 2.0], [0.0, 1.0]]), "sorted by start"),
    ],
)
def test_refuses_what_is_not_a_sequence(values: np.ndarray, times: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureSequence(values, times, NAMES)


def test_between_keeps_steps_by_their_middle() -> None:
    kept = make([0.0, 1.0, 2.0, 3.0]).between(1.5, 3.5)
    assert kept.times[:, 0].tolist() == [1.0, 2.0]
    assert kept.values.tolist() == [[2.0, 3.0], [4.0, 5.0]]


@given(st.lists(st.floats(0, 100), max_size=30), st.floats(0, 100))
def test_two_halves_make_the_whole(starts: list[float], cut: float) -> None:
    whole = make(sorted(starts))
    halves = [whole.between(-1.0, cut), whole.between(cut, 200.0)]
    assert np.array_equal(np.concatenate([h.values for h in halves]), whole.values)


@given(st.integers(0, 100_000), st.sampled_from([2.0, 3.0, 5.0, 10.0, 12.5, 29.97]), st.sampled_from([-1, 0, 1]))
def test_a_step_whose_middle_is_the_cut_belongs_behind_it(k: int, rate: float, ulps: int) -> None:
    """However the cut was computed: to the last bit more or less. `first_step` and `between` agree."""
    cut = (k + 0.5) / rate
    cut = cut if not ulps else float(np.nextafter(cut, ulps * np.inf))
    steps = FeatureSequence(np.zeros((2, 2), np.float32), np.array([[k - 1, k], [k, k + 1]]) / rate, NAMES)
    assert first_step(cut, rate) == k
    assert steps.between(cut, np.inf).times[:, 0].tolist() == [k / rate]
    assert steps.between(-np.inf, cut).times[:, 0].tolist() == [(k - 1) / rate]


def test_empty_keeps_the_dimension() -> None:
    empty = FeatureSequence.empty(NAMES)
    assert (len(empty), empty.dim, repr(empty)) == (0, 2, "FeatureSequence(T=0, D=2, empty)")
