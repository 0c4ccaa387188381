from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mmsa.scoring.colours import DARK, class_colours
from mmsa.scoring.overlay.panel import PLAYHEAD, Panel
from mmsa.scoring.results import Score, WindowScore

MakeScore = Callable[..., Score]


def _drawn(score: Score, seconds: float, width: int = 640) -> tuple[Panel, np.ndarray]:
    panel = Panel(score, width)
    canvas = np.zeros((panel.height, width, 3), np.uint8)
    panel.draw(canvas, seconds)
    return panel, canvas


def _colour(place: int) -> tuple[int, ...]:
    return tuple(bytes.fromhex(DARK[place][1:]))


def _wide(canvas: np.ndarray, colour: tuple[int, ...]) -> int:
    """The longest row of pixels of a colour, to the right of the bars' names."""
    return int((canvas[:, 340:] == colour).all(axis=2).sum(axis=1).max())


@pytest.mark.parametrize("seconds", [0.0, 6.5, 13.0, 26.0])
def test_the_playhead_stands_where_the_time_is(make_score: MakeScore, seconds: float) -> None:
    panel, canvas = _drawn(make_score("a.mp4", 12), seconds)
    bright = (canvas[-30] == PLAYHEAD).all(axis=1)
    assert bright.any()
    at = float(np.flatnonzero(bright).mean()) + 0.5
    left, right = panel.track_span
    assert at == pytest.approx(left + seconds / 26 * (right - left), abs=1.5)


def test_bars_are_as_long_as_the_smoothed_probabilities(make_score: MakeScore) -> None:
    score = make_score("a.mp4", 12)
    panel, canvas = _drawn(score, 8.5)  # windows of 4 s every 2 s: number 3
    smoothed = score.windows[3].smoothed["emotion"].probabilities
    room = (640 - 56) - 344
    for name, place in zip(smoothed, class_colours(list(smoothed)), strict=True):
        upper = canvas[: panel.height - 70]
        assert _wide(upper, _colour(place)) == pytest.approx(smoothed[name] * room, abs=2), name


def test_what_is_missing_is_said_in_another_colour(make_score: MakeScore) -> None:
    score = make_score("a.mp4", 12)
    warn = tuple(bytes.fromhex("ffb787"))
    assert (_drawn(score, 6.5)[1] == warn).all(axis=2).any()  # window 2 has no face
    assert not (_drawn(score, 8.5)[1] == warn).all(axis=2).any()


def test_readings_change_with_the_window_and_not_within_it(make_score: MakeScore) -> None:
    score = make_score("a.mp4", 12)
    panel = Panel(score, 640)
    canvases = []
    for at in (7.2, 8.8, 9.2):  # borders of windows lie at odd seconds: 7 to 9 belongs to number 3
        canvas = np.zeros((panel.height, 640, 3), np.uint8)
        panel.draw(canvas, at)
        canvases.append(canvas[: panel.height - 70])
    assert (canvases[0] == canvases[1]).all()
    assert (canvases[1] != canvases[2]).any()


def test_moments_without_scores_or_windows(make_score: MakeScore) -> None:
    empty = Score("a.wav", duration_seconds=4.0, windows=(WindowScore(0, 0.0, 1.0), WindowScore(1, 3.0, 4.0)))
    _, there = _drawn(empty, 0.5)
    _, gap = _drawn(empty, 2.0)
    assert (there[:40] != gap[:40]).any()


def test_everything_scales_with_the_width(make_score: MakeScore) -> None:
    small, _ = _drawn(make_score("a.mp4"), 0.0, 640)
    large, _ = _drawn(make_score("a.mp4"), 0.0, 1280)
    assert large.height == pytest.approx(2 * small.height, abs=2)
