from __future__ import annotations

import pytest

from mmsa.scoring.results import ModalityScore, Moment, TaskScore, WindowScore
from mmsa.scoring.summary import summarise


def _window(number: int, start: float, end: float, value: float, smoothed: float, joy: float) -> WindowScore:
    def both(shown: float, share: float) -> dict[str, TaskScore]:
        return {
            "mood": TaskScore(value=shown),
            "emotion": TaskScore(
                label="joy" if share > 0.5 else "fear", probabilities={"joy": share, "fear": 1 - share}
            ),
            "several": TaskScore(labels=("joy",) if share > 0.5 else (), probabilities={"joy": share}),
        }

    there = {"audio": ModalityScore(True, None, 1, None), "text": ModalityScore(number == 0, None, 0, None)}
    return WindowScore(number, start, end, both(value, joy), both(smoothed, joy), there)


WINDOWS = [_window(0, 0, 1, 1.0, 0.5, 0.9), _window(1, 1, 4, -1.0, -0.25, 0.2), _window(2, 4, 8, 0.0, 0.75, 0.6)]
"""1, 3 and 4 seconds long: weights 1/8, 3/8 and 1/2."""


def test_values_count_by_their_windows_length() -> None:
    found = summarise(WINDOWS).tasks["mood"]
    assert found.mean == pytest.approx(-2 / 8)
    assert found.std == pytest.approx((4 / 8 - (2 / 8) ** 2) ** 0.5)


def test_moments_are_the_middles_of_their_windows() -> None:
    found = summarise(WINDOWS).tasks["mood"]
    assert (found.lowest, found.highest) == (Moment(2.5, -1.0, 1), Moment(0.5, 1.0, 0))
    assert (found.most_negative, found.most_positive) == (Moment(2.5, -0.25, 1), Moment(6.0, 0.75, 2))


def test_emotions_have_shares_of_time() -> None:
    found = summarise(WINDOWS).tasks["emotion"]
    assert found.shares == pytest.approx({"joy": 5 / 8, "fear": 3 / 8})
    assert found.probabilities["joy"] == pytest.approx((0.9 + 3 * 0.2 + 4 * 0.6) / 8)
    assert sum(found.probabilities.values()) == pytest.approx(1.0)
    assert found.peaks["joy"] == Moment(0.5, 0.9, 0)
    assert found.peaks["fear"] == Moment(2.5, 0.8, 1)
    assert (found.mean, found.lowest) == (None, None)


def test_classes_that_hold_at_once_have_shares_of_their_own() -> None:
    assert summarise(WINDOWS).tasks["several"].shares == pytest.approx({"joy": 5 / 8})


def test_windows_without_scores_count_for_the_coverage_alone() -> None:
    empty = WindowScore(3, 8, 16, modalities={key: ModalityScore(False, "gone", 0, None) for key in ("audio", "text")})
    found = summarise([*WINDOWS, empty])
    assert found.tasks == summarise(WINDOWS).tasks
    assert found.coverage == pytest.approx({"audio": 8 / 16, "text": 1 / 16})
    assert (found.windows, found.scored_windows) == (4, 3)


def test_still_images_without_length_count_alike() -> None:
    found = summarise([_window(0, 0, 0, 1.0, 1.0, 0.9)])
    assert found.tasks["mood"].mean == 1.0
    assert found.coverage == {"audio": 1.0, "text": 1.0}
