"""Calibration: probabilities that mean what they say, and intervals that hold the true score as often as promised.

Both are fitted on the validation split, after training, and never see the test split, on which they are judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsa.tasks import MultiLabel, Regression, Task

if TYPE_CHECKING:
    from torch import Tensor

    from mmsa.evaluation import Predictions

LEVEL = 0.9
"""Share of clips that an interval is to hold."""

HOTTEST = 20.0
"""Temperatures are sought between 1 / HOTTEST and HOTTEST."""

BINS = 15
"""Bins of the expected calibration error, as in Guo et al."""

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Calibration:
    """What makes a model's outputs honest.

    Attributes:
        temperatures: by task with classes: logits are divided by it.
        half_widths: by regression task: the interval reaches so far to both sides; a task with too few labelled
            validation clips for the level has none.
        level: share of clips that an interval is to hold.
        clips: by task, how many labelled validation clips it was fitted on.
    """

    temperatures: Mapping[str, float] = field(default_factory=dict)
    half_widths: Mapping[str, float] = field(default_factory=dict)
    level: float = LEVEL
    clips: Mapping[str, int] = field(default_factory=dict)

    def apply(self, tasks: Sequence[Task], prediction: Tensor) -> Tensor:
        """`(B, O)`: scores as they are, logits over their task's temperature."""
        import torch

        heat = [self.temperatures.get(task.name, 1.0) for task in tasks for _ in range(task.output_dim)]
        return prediction / torch.tensor(heat, dtype=prediction.dtype, device=prediction.device)

    def interval(self, task: Task, value: float) -> tuple[float, float] | None:
        """Where the true score lies; within the task's range."""
        half = self.half_widths.get(task.name)
        if half is None or not isinstance(task, Regression):
            return None
        return max(task.low, value - half), min(task.high, value + half)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: a temperature that is not positive, or a width below 0.
        """
        found = cls(
            {key: float(value) for key, value in data["temperatures"].items()},
            {key: float(value) for key, value in data["half_widths"].items()},
            float(data["level"]),
            {key: int(value) for key, value in data["clips"].items()},
        )
        positive = all(0 < value < math.inf for value in found.temperatures.values())
        if not positive or not all(0 <= value < math.inf for value in found.half_widths.values()):
            raise ValueError("a calibration with a temperature or a width that is none")
        return found


def fit_calibration(tasks: Sequence[Task], valid: Predictions) -> Calibration:
    """Fit on the predictions for the validation split.

    Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2: the one number
    `T` that minimises the negative log-likelihood of `softmax(logits / T)` (of a multi-label task: of the sigmoids).
    It changes no label. As the best temperature for a few clips that are all right would be 0, labels are softened by
    one imagined clip per class, as by Platt ("Probabilistic Outputs for Support Vector Machines", 1999, section 2.2).

    Split-conformal intervals: Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 2018, algorithm
    2: the `ceil((n + 1) · level)`-th smallest absolute residual of `n` clips. The validation clips also chose the best
    epoch, so that the guarantee is not exact; `test/<task>.coverage_90` says what holds on clips that chose nothing.
    """
    temperatures, half_widths, clips = {}, {}, {}
    for task in tasks:
        outputs, labels = _labelled(valid, task)
        clips[task.name] = len(labels)
        if isinstance(task, Regression):
            half = conformal_half_width(np.abs(np.clip(outputs[:, 0], task.low, task.high) - labels), LEVEL)
            if half is not None:
                half_widths[task.name] = half
        elif len(labels):
            temperatures[task.name] = best_temperature(task, outputs, labels)
    return Calibration(temperatures, half_widths, LEVEL, clips)


def conformal_half_width(residuals: Array, level: float) -> float | None:
    """The `ceil((n + 1) · level)`-th smallest of `n` absolute residuals; None where `n` is too small.

    Example:
        >>> conformal_half_width(np.arange(1.0, 20.0), 0.9)
        18.0
    """
    rank = math.ceil((len(residuals) + 1) * level - 1e-9)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else None


def best_temperature(task: Task, logits: Array, labels: Array) -> float:
    """The temperature with the least cross-entropy against the softened labels.

    Args:
        task: with classes.
        logits: `(N, C)`.
        labels: `(N,)` class indices, or `(N, C)` ones and zeros.
    """
    from scipy.optimize import minimize_scalar

    targets, reach = softened(task, labels), math.log(HOTTEST)
    found = minimize_scalar(
        lambda log_heat: _cross_entropy(task, logits / math.exp(log_heat), targets),
        bounds=(-reach, reach),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(float(found.x))


def log_loss(task: Task, logits: Array, labels: Array) -> float:
    """Mean negative log-likelihood of the labels."""
    return _cross_entropy(task, logits, _targets(task, labels))


def softened(task: Task, labels: Array) -> Array:
    """`(N, C)`: of `N` labels, what shares of each class they are once every class has one more imagined clip."""
    outcomes = 2 if isinstance(task, MultiLabel) else task.output_dim
    return (_targets(task, labels) * len(labels) + 1.0) / (len(labels) + outcomes)


def _targets(task: Task, labels: Array) -> Array:
    return labels if isinstance(task, MultiLabel) else np.eye(task.output_dim)[labels.astype(np.int64)]


def _cross_entropy(task: Task, logits: Array, targets: Array) -> float:
    logits = np.asarray(logits, np.float64)
    if isinstance(task, MultiLabel):
        return float((np.logaddexp(0.0, logits) - targets * logits).mean())
    return float((np.logaddexp.reduce(logits, axis=1) - (targets * logits).sum(axis=1)).mean())


def calibration_error(task: Task, logits: Array, labels: Array, bins: int = BINS) -> float:
    """Expected calibration error: how far confidence and truth are apart, over equal bins of confidence.

    Guo et al. 2017, eq. 3; of a multi-label task the mean over all its decisions of probability against truth.
    """
    logits = np.asarray(logits, np.float64)
    if isinstance(task, MultiLabel):
        sure = 1.0 / (1.0 + np.exp(-logits.ravel()))
        right = labels.ravel()
    else:
        shares = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
        sure, right = shares.max(axis=1), (shares.argmax(axis=1) == labels).astype(np.float64)
    if not len(sure):
        return 0.0
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(
        sum(
            abs(sure[place == one].mean() - right[place == one].mean()) * (place == one).mean()
            for one in np.unique(place)
        )
    )


def calibration_metrics(tasks: Sequence[Task], test: Predictions, found: Calibration) -> dict[str, float]:
    """How honest the outputs are on another split.

    Returns:
        `"<task>.ece"` and `"<task>.nll"` as calibrated, the same with `_raw` before; `"<task>.coverage_90"` and
        `"<task>.interval_width"` (mean) of regression tasks.
    """
    metrics: dict[str, float] = {}
    for task in tasks:
        outputs, labels = _labelled(test, task)
        if not len(labels):
            continue
        if isinstance(task, Regression):
            spans = [found.interval(task, float(value)) for value in np.clip(outputs[:, 0], task.low, task.high)]
            kept = [(span, label) for span, label in zip(spans, labels, strict=True) if span is not None]
            if kept:
                inside = [low - 1e-9 <= label <= high + 1e-9 for (low, high), label in kept]
                metrics[f"{task.name}.coverage_{round(found.level * 100)}"] = float(np.mean(inside))
                metrics[f"{task.name}.interval_width"] = float(np.mean([high - low for (low, high), _ in kept]))
            continue
        for name, heat in (("", found.temperatures.get(task.name, 1.0)), ("_raw", 1.0)):
            metrics[f"{task.name}.ece{name}"] = calibration_error(task, outputs / heat, labels)
            metrics[f"{task.name}.nll{name}"] = log_loss(task, outputs / heat, labels)
    return metrics


def _labelled(predictions: Predictions, task: Task) -> tuple[Array, Array]:
    labels = predictions.labels[task.name]
    known = ~np.isnan(labels.reshape(len(labels), -1)).any(axis=1)
    return predictions.outputs[task.name][known].astype(np.float64), labels[known].astype(np.float64)
