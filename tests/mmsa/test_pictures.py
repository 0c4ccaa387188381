from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from mmsa.evaluation import Predictions
from mmsa.pictures import _confusion, _curves, _presence, _scatter, confusion_matrix, draw_all
from mmsa.tasks import Classification, MultiLabel, Regression
from mmsa.training import Epoch, History

SENTIMENT = Regression("sentiment", -3, 3)
EMOTION = Classification("emotion", ("calm", "glad", "cross"))
MOODS = MultiLabel("moods", ("happy", "sad"))
NAN = float("nan")
PREDICTIONS = Predictions(
    clips=("a", "b", "c", "d", "e"),
    outputs={
        "sentiment": np.array([[0.5], [-1.0], [2.0], [4.0], [0.0]], np.float32),
        "emotion": np.array([[3, 1, 2], [0, 5, 1], [1, 9, 0], [0, 0, 1], [7, 0, 0]], np.float32),
        "moods": np.array([[1, -1], [2, -1], [-1, -1], [3, 2], [1, 1]], np.float32),
    },
    labels={
        "sentiment": np.array([1.0, NAN, 2.5, 3.0, -2.0], np.float32),
        "emotion": np.array([0, 0, 1, NAN, 2], np.float32),
        "moods": np.array([[1, 0], [0, 1], [1, 1], [1, 0], [NAN, NAN]], np.float32),
    },
    loss=0.5,
    weights={},
)
HISTORY = History(
    (
        Epoch(1, 2.0, 1.0, {}, {"task": 1.5}),
        Epoch(2, 1.0, 0.75, {}, {"task": 0.5}),
        Epoch(3, 0.5, 0.9, {}, {"task": 0.25}),
    ),
    best=2,
)


def axes_of(draw: Callable[[Axes], None]) -> Any:
    """Untyped, since matplotlib types what it holds as anything array-like."""
    axes: Axes = Figure().subplots()
    draw(axes)
    return axes


def test_the_confusion_counts_labelled_clips_true_by_predicted() -> None:
    # a: calm as calm; b: calm as glad; c: glad as glad; d has no label; e: cross as calm.
    assert confusion_matrix(EMOTION, PREDICTIONS).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_the_confusion_picture_shows_the_counts_and_shares() -> None:
    axes = axes_of(lambda axes: _confusion(axes, EMOTION, PREDICTIONS))
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    counts = confusion_matrix(EMOTION, PREDICTIONS)
    assert shown == {(column, row): str(counts[row, column]) for row in range(3) for column in range(3)}
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert [label.get_text() for label in axes.get_yticklabels()] == list(EMOTION.classes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_a_class_without_clips_has_no_share() -> None:
    nothing = Predictions(("a",), {"emotion": np.eye(3, dtype=np.float32)[:1]}, {"emotion": np.array([0.0])}, 0, {})
    axes = axes_of(lambda axes: _confusion(axes, EMOTION, nothing))
    np.testing.assert_allclose(axes.images[0].get_array(), [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_the_scatter_shows_every_labelled_clip() -> None:
    axes = axes_of(lambda axes: _scatter(axes, SENTIMENT, PREDICTIONS))
    points = axes.collections[0].get_offsets().astype(float).filled(NAN)
    labelled = points[~np.isnan(points).any(axis=1)]
    np.testing.assert_allclose(labelled, [[1.0, 0.5], [2.5, 2.0], [3.0, 4.0], [-2.0, 0.0]])
    low, high = axes.lines[0].get_xydata()  # the diagonal over the task's range
    assert low.tolist() == [-3, -3]
    assert high.tolist() == [3, 3]


def test_each_of_several_classes_is_a_bar_of_found_missed_and_false() -> None:
    # happy: a and d found, c missed, b a false alarm; sad: b and c missed, d a false alarm; e has no label.
    axes = axes_of(lambda axes: _presence(axes, MOODS, PREDICTIONS))
    bars = {bars.get_label(): [(bar.get_x(), bar.get_width()) for bar in bars] for bars in axes.containers}
    assert bars == {"found": [(0, 2), (0, 0)], "missed": [(2, 1), (0, 2)], "false alarm": [(3, 1), (2, 1)]}
    assert [label.get_text() for label in axes.get_yticklabels()] == list(MOODS.classes)
    assert [text.get_text() for text in axes.texts] == ["2", "", "1", "2", "1", "1"]


def test_the_curves_compare_like_with_like() -> None:
    """Both are the task loss, since the training total holds terms that validation does not have."""
    axes = axes_of(lambda axes: _curves(axes, HISTORY))
    train, valid, kept = axes.lines
    assert train.get_xydata().tolist() == [[1, 1.5], [2, 0.5], [3, 0.25]]
    assert valid.get_xydata().tolist() == [[1, 1.0], [2, 0.75], [3, 0.9]]
    assert kept.get_xdata() == [2, 2]


@pytest.mark.filterwarnings("error")
def test_every_task_gets_a_readable_file(tmp_path: Path) -> None:
    draw_all(tmp_path, (SENTIMENT, EMOTION, MOODS), PREDICTIONS, HISTORY)
    names = ["emotion.png", "learning_curves.png", "moods.png", "sentiment.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for path in tmp_path.iterdir():
        picture = imread(path)
        assert picture.std() > 0.05, f"{path.name} is blank"
