from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss as reference_log_loss

from mmsa.calibration import (
    Calibration,
    best_temperature,
    calibration_error,
    calibration_metrics,
    conformal_half_width,
    fit_calibration,
    log_loss,
)
from mmsa.evaluation import Predictions
from mmsa.tasks import Classification, MultiLabel, Regression, Task

TWO = Classification("emotion", ("low", "high"))
THREE = Classification("emotion", ("a", "b", "c"))
BOTH = MultiLabel("moods", ("x", "y"))
MOOD = Regression("mood", -1.0, 1.0)


def _predictions(task: Task, outputs: np.ndarray, labels: np.ndarray) -> Predictions:
    names = tuple(str(k) for k in range(len(outputs)))
    return Predictions(names, {task.name: outputs.astype(np.float32)}, {task.name: labels.astype(np.float32)}, 0.0, {})


def _drawn(scale: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of some logits, and these logits too large by a factor."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(count, 3)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in shares])
    return logits * scale, labels


def test_the_temperature_undoes_what_made_the_model_too_sure() -> None:
    logits, labels = _drawn(3.0, 6000)
    assert best_temperature(THREE, logits, labels) == pytest.approx(3.0, rel=0.06)
    assert best_temperature(THREE, logits / 9, labels) == pytest.approx(1 / 3, rel=0.06)


def test_a_few_clips_that_are_all_right_do_not_make_it_certain() -> None:
    """By hand: logits ±a, all right; the softened truth is (N + 1) / (N + 2), which sigmoid(2a / T) must be."""
    labels = np.array([0, 1, 0, 1, 1, 0])
    logits = np.where(labels[:, None] == np.arange(2), 4.0, -4.0)
    expected = 8.0 / math.log((6 + 1) / 1)
    assert best_temperature(TWO, logits, labels) == pytest.approx(expected, rel=1e-4)


def test_several_classes_at_once_have_one_temperature() -> None:
    """By hand, as above: each decision is one of two outcomes."""
    labels = np.array([[0, 1], [1, 1], [1, 0]], np.float64)
    expected = 4.0 / math.log((3 + 1) / 1)
    assert best_temperature(BOTH, np.where(labels == 1, 4.0, -4.0), labels) == pytest.approx(expected, rel=1e-4)


def test_log_loss_is_sklearns() -> None:
    logits, labels = _drawn(1.0, 50)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert log_loss(THREE, logits, labels) == pytest.approx(reference_log_loss(labels, shares, labels=[0, 1, 2]))


def test_calibration_error_is_the_textbooks() -> None:
    logits, labels = _drawn(2.0, 300)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = 0.0
    for k in range(10):
        inside = [i for i in range(300) if k / 10 < shares[i].max() <= (k + 1) / 10]
        if inside:
            right = sum(shares[i].argmax() == labels[i] for i in inside) / len(inside)
            sure = sum(shares[i].max() for i in inside) / len(inside)
            expected += len(inside) / 300 * abs(right - sure)
    assert calibration_error(THREE, logits, labels, bins=10) == pytest.approx(expected)


def test_calibration_error_of_decisions_that_are_right_as_often_as_said() -> None:
    logits = np.full((4, 2), math.log(3.0))  # 75 % sure of each
    labels = np.array([[1, 1], [1, 0], [1, 1], [0, 1]], np.float64)
    assert calibration_error(BOTH, logits, labels) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("count", [9, 19, 30])
def test_a_conformal_interval_holds_a_new_clip_as_often_as_promised(count: int) -> None:
    """Exchangeable residuals: the coverage is ceil((n + 1) level) / (n + 1), here over 4000 draws."""
    rng = np.random.default_rng(count)
    held = 0
    for _ in range(4000):
        drawn = rng.exponential(size=count + 1)
        half = conformal_half_width(drawn[:-1], 0.9)
        assert half is not None
        held += drawn[-1] <= half
    promised = math.ceil((count + 1) * 0.9 - 1e-9) / (count + 1)
    assert promised >= 0.9
    assert held / 4000 == pytest.approx(promised, abs=0.02)


def test_too_few_clips_give_no_interval() -> None:
    assert conformal_half_width(np.ones(8), 0.9) is None
    found = fit_calibration([MOOD], _predictions(MOOD, np.zeros((8, 1)), np.zeros(8)))
    assert found.half_widths == {}
    assert found.interval(MOOD, 0.5) is None


def test_clips_without_a_label_count_for_nothing() -> None:
    outputs = np.concatenate([np.full((10, 1), 0.5), np.zeros((5, 1))])
    labels = np.concatenate([np.full(10, 0.25), np.full(5, np.nan)])
    found = fit_calibration([MOOD], _predictions(MOOD, outputs, labels))
    assert found.half_widths == {"mood": pytest.approx(0.25)}
    assert found.clips == {"mood": 10}


def test_intervals_stay_in_the_tasks_range() -> None:
    found = Calibration(half_widths={"mood": 0.5})
    assert found.interval(MOOD, 0.75) == (0.25, 1.0)
    assert found.interval(MOOD, -0.75) == (-1.0, -0.25)


def test_temperatures_reach_their_own_task_only() -> None:
    found = Calibration({"emotion": 2.0, "moods": 4.0})
    prediction = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0]])
    assert found.apply((MOOD, TWO, BOTH), prediction).tolist() == [[1.0, 0.5, 0.5, 0.25, 0.25]]


def test_metrics_on_other_clips() -> None:
    outputs, labels = np.array([[0.0], [0.5], [2.0]]), np.array([0.25, -0.25, 1.0])
    metrics = calibration_metrics([MOOD], _predictions(MOOD, outputs, labels), Calibration(half_widths={"mood": 0.3}))
    assert metrics == {
        "mood.coverage_90": pytest.approx(2 / 3),
        "mood.interval_width": pytest.approx((0.6 + 0.6 + 0.3) / 3),
    }
    logits, classes = _drawn(3.0, 500)
    emotion = calibration_metrics([THREE], _predictions(THREE, logits, classes), Calibration({"emotion": 3.0}))
    assert emotion["emotion.ece_raw"] > 2 * emotion["emotion.ece"]
    assert emotion["emotion.nll_raw"] == pytest.approx(log_loss(THREE, logits.astype(np.float32), classes))
    assert emotion["emotion.nll"] < emotion["emotion.nll_raw"]


def test_it_is_written_and_read() -> None:
    found = Calibration({"emotion": 1.5}, {"mood": 0.25}, 0.9, {"emotion": 8, "mood": 8})
    assert Calibration.from_dict(found.to_dict()) == found
    for wrong in ({"emotion": 0.0}, {"emotion": math.nan}):
        with pytest.raises(ValueError, match="that is none"):
            Calibration.from_dict({**found.to_dict(), "temperatures": wrong})
