from __future__ import annotations

import math

import numpy as np
import pytest

from mmsa.scoring.results import ModalityScore, TaskScore, WindowScore
from mmsa.scoring.smoothing import REACH, default_width, smooth


def _window(start: float, value: float | None, end: float | None = None, **more: object) -> WindowScore:
    scores = {} if value is None else {"mood": TaskScore(value=value, interval=(value, value))}
    return WindowScore(0, start, start + 2 if end is None else end, scores, **more)  # type: ignore[arg-type]


def _there(*present: bool) -> dict[str, ModalityScore]:
    return {str(k): ModalityScore(one, None if one else "gone", int(one), None) for k, one in enumerate(present)}


def _values(windows: list[WindowScore]) -> list[float]:
    return [window.smoothed["mood"].value or 0.0 for window in windows]


def test_the_mean_is_the_gaussian_one() -> None:
    """By hand: middles at 1, 2 and 4 s, width 1 s, the middle's neighbours at 1 and 2 standard deviations."""
    windows = [_window(0, 1.0), _window(1, 0.0), _window(3, -1.0)]
    near, far, farther = math.exp(-0.5), math.exp(-2.0), math.exp(-4.5)
    expected = [
        (1 - farther) / (1 + near + farther),
        (near - far) / (near + 1 + far),
        (farther - 1) / (farther + far + 1),
    ]
    assert _values(smooth(windows, 1.0)) == pytest.approx(expected, rel=1e-6)


def test_what_is_further_than_the_reach_counts_for_nothing() -> None:
    just, beyond = _window(REACH, 1.0), _window(REACH + 0.01, 1.0)
    assert _values(smooth([_window(0, 0.0), just], 1.0))[0] > 0
    assert _values(smooth([_window(0, 0.0), beyond], 1.0))[0] == 0


def test_the_order_of_windows_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    windows = [_window(float(s), float(v)) for s, v in zip(rng.uniform(0, 30, 40), rng.normal(size=40), strict=True)]
    order = rng.permutation(40)
    shuffled = _values(smooth([windows[k] for k in order], 2.0))
    straight = _values(smooth(windows, 2.0))
    assert shuffled == pytest.approx([straight[k] for k in order])


def test_a_window_with_half_its_modalities_counts_half() -> None:
    full, half = _window(0, 0.0, modalities=_there(True, True)), _window(0, 1.0, modalities=_there(True, False))
    assert _values(smooth([full, half], 1.0)) == pytest.approx([1 / 3, 1 / 3])


def test_gaps_are_not_bridged_and_count_for_nothing() -> None:
    found = smooth([_window(0, 1.0), _window(1, None), _window(2, 1.0)], 1.0)
    assert found[1].smoothed == {}
    assert _values([found[0], found[2]]) == [1.0, 1.0]


def test_speakers_do_not_mix() -> None:
    windows = [_window(0, 1.0, speaker="a"), _window(1, -1.0, speaker="b"), _window(2, 1.0, speaker="a")]
    assert _values(smooth(windows, 5.0)) == [1.0, -1.0, 1.0]


def test_probabilities_are_averaged_and_the_label_follows() -> None:
    first = TaskScore(label="joy", probabilities={"joy": 0.6, "fear": 0.4})
    other = TaskScore(label="fear", probabilities={"joy": 0.1, "fear": 0.9})
    windows = [WindowScore(k, 0, 2, {"mood": score}) for k, score in enumerate((first, other))]
    for window in smooth(windows, 1.0):
        assert window.smoothed["mood"].probabilities == pytest.approx({"joy": 0.35, "fear": 0.65})
        assert window.smoothed["mood"].label == "fear"


def test_classes_that_may_hold_at_once_are_judged_one_by_one() -> None:
    first = TaskScore(labels=("joy",), probabilities={"joy": 0.9, "awe": 0.4})
    other = TaskScore(labels=("awe",), probabilities={"joy": 0.3, "awe": 0.8})
    windows = [WindowScore(k, 0, 2, {"mood": score}) for k, score in enumerate((first, other))]
    assert smooth(windows, 1.0)[0].smoothed["mood"].labels == ("joy", "awe")


def test_width_zero_changes_nothing_but_drops_intervals() -> None:
    windows = [_window(0, 1.0), _window(1, -1.0)]
    found = smooth(windows, 0.0)
    assert _values(found) == [1.0, -1.0]
    assert found[0].smoothed["mood"].interval is None
    assert found[0].scores["mood"].interval == (1.0, 1.0)


def test_the_default_is_half_the_median_length() -> None:
    assert default_width([_window(0, 1.0, 2.0), _window(0, 1.0, 6.0), _window(0, 1.0, 100.0)]) == 3.0
    assert default_width([]) == 0.0
