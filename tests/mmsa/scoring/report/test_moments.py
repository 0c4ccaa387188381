from __future__ import annotations

import pytest

from mmsa.scoring.report.moments import MOST_STRETCHES, find_gaps, find_peaks
from mmsa.scoring.results import ModalityScore, Score, TaskScore, WindowScore
from mmsa.scoring.smoothing import smooth
from mmsa.scoring.summary import summarise

THERE = ModalityScore(True, None, 3, None)


def _gone(reason: str) -> ModalityScore:
    return ModalityScore(False, reason, 0, None)


def _score(windows: list[WindowScore]) -> Score:
    windows = smooth(windows, 0.0)
    return Score("a.mp4", windows=tuple(windows), summary=summarise(windows))


def _window(k: int, value: float, joy: float) -> WindowScore:
    emotion = TaskScore(label="joy" if joy > 0.5 else "fear", probabilities={"joy": joy, "fear": 1 - joy, "awe": 0.0})
    return WindowScore(k, 2.0 * k, 2.0 * k + 2, {"sentiment": TaskScore(value=value), "emotion": emotion})


def test_peaks_are_the_ends_and_the_classes_that_hold() -> None:
    peaks = find_peaks(_score([_window(0, -0.5, 0.2), _window(1, 0.75, 0.9), _window(2, 0.1, 0.6)]))
    assert [(one.title, one.value, one.seconds) for one in peaks] == [
        ("lowest sentiment", "-0.50", 1.0),
        ("fear", "80%", 1.0),
        ("highest sentiment", "+0.75", 3.0),
        ("joy", "90%", 3.0),
    ]


def test_one_window_has_one_peak_a_task_and_an_error_none() -> None:
    assert [one.title for one in find_peaks(_score([_window(0, -0.5, 0.2)]))] == ["sentiment", "fear"]
    assert find_peaks(Score("a.mp4", error="gone")) == []


def test_gaps_are_joined_where_windows_in_a_row_lack_it() -> None:
    faces = ["in 20", None, "in 20", "in 15", None]
    windows = [
        WindowScore(k, 2.0 * k, 2.0 * k + 4, modalities={
            "vision": THERE if face is None else _gone(f"no face found {face} sampled frames"), "text": THERE
        })
        for k, face in enumerate(faces)
    ]  # fmt: skip
    (gap,) = find_gaps(Score("a.mp4", windows=tuple(windows)))
    assert (gap.modality, gap.reason) == ("vision", "no face found")
    assert gap.stretches == ((0.0, 4.0), (4.0, 10.0))
    assert gap.share == pytest.approx(3 / 5)
    assert gap.more == 0


def test_the_list_of_stretches_is_bounded() -> None:
    windows = [
        WindowScore(k, 2.0 * k, 2.0 * k + 2, modalities={"text": THERE if k % 2 else _gone("no words")})
        for k in range(100)
    ]
    (gap,) = find_gaps(Score("a.mp4", windows=tuple(windows)))
    assert len(gap.stretches) == MOST_STRETCHES
    assert gap.more == 50 - MOST_STRETCHES


def test_still_images_have_shares_without_time() -> None:
    window = WindowScore(0, 0.0, 0.0, modalities={"audio": _gone("a still image has no sound"), "vision": THERE})
    (gap,) = find_gaps(Score("a.png", windows=(window,)))
    assert gap.share == 1.0
