"""Metrics as functions of sums over clips, so that thousands of resamples cost one matrix product.

`mmsa.metrics` defines the metrics; nothing here is believed before it gave the same number as there on all clips
(`decompose` checks that and says no otherwise).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.metrics import class_keys, compute_metrics
from mmsa.tasks import Classification, Regression, Task

Array = NDArray[np.float64]
Labels = NDArray[np.floating[Any]]

MEANS = frozenset({"mae", "acc_2", "acc_3", "acc_5", "acc_7", "acc_2_has0", "acc_2_non0", "acc_2_weak"})
"""Metrics of scores that are the mean of what they are on each clip alone."""

CLIPPED = ("sims", "simsv2")
"""Metric sets that clip predictions and truths to [-1, 1] first."""

TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Sums:
    """A metric, taken apart.

    Attributes:
        parts: `(N, K)`: what each clip adds.
        finish: sums `(…, K)` → metric `(…)`; NaN where it is not defined.
    """

    parts: Array
    finish: Callable[[Array], Array]


def metric_of(task: Task, name: str, outputs: Labels, labels: Labels) -> float:
    """One metric of a task on these clips; NaN where it is not defined."""
    return compute_metrics(task, outputs, labels).get(name, float("nan")) if len(labels) else float("nan")


def decompose(task: Task, name: str, outputs: Labels, labels: Labels) -> Sums | None:
    """A metric as a function of sums over clips.

    Args:
        task: what was predicted.
        name: of the metric, without its task.
        outputs: `(N, task.output_dim)`.
        labels: `(N,)` or `(N, C)`, NaN where unlabelled; such clips add nothing.

    Returns:
        None where the metric has no such form here, or where it is not the metric of `mmsa.metrics` to 1e-6.
    """
    found = _decompose(task, name, outputs, labels)
    if found is None:
        return None
    expected = metric_of(task, name, outputs, labels)
    got = float(found.finish(found.parts.sum(axis=0)))
    return found if abs(got - expected) <= TOLERANCE else None


def _decompose(task: Task, name: str, outputs: Labels, labels: Labels) -> Sums | None:
    if isinstance(task, Regression):
        if name in MEANS:
            return _mean(task, name, outputs, labels)
        known = ~np.isnan(labels)
        truth, guess = labels.astype(np.float64), outputs[:, 0].astype(np.float64)
        if task.metrics in CLIPPED:
            truth, guess = np.clip(truth, -1, 1), np.clip(guess, -1, 1)
        if name in ("corr", "ccc"):
            return _moments(truth, guess, known, _pearson if name == "corr" else _concordance)
        rules = {"f1_has0": (truth >= 0, guess >= 0, known), "f1": (truth > 0, guess > 0, known)}
        rules["f1_non0"] = (truth > 0, guess > 0, known & (truth != 0))
        if name in rules:
            true, said, counted = rules[name]
            return _confusion(true.astype(int), said.astype(int), counted, 2, _weighted_f1)
        return None
    if isinstance(task, Classification):
        known = ~np.isnan(labels)
        finishes: dict[str, Callable[[Array], Array]] = {
            "accuracy": _accuracy,
            "weighted_f1": _weighted_f1,
            "macro_f1": _macro_f1,
            "uar": _uar,
        }
        finishes.update({f"f1_{key}": _one_f1(i) for i, key in enumerate(class_keys(task.classes))})
        if name not in finishes:
            return None
        true = np.where(known, labels, 0).astype(int)
        return _confusion(true, outputs.argmax(axis=1).astype(int), known, task.output_dim, finishes[name])
    return None


def _mean(task: Regression, name: str, outputs: Labels, labels: Labels) -> Sums:
    scores, truth = outputs[:, 0].astype(np.float32), labels.astype(np.float32)
    own = _singles(task, scores.tobytes(), truth.tobytes()).get(name, np.full(len(labels), np.nan))
    known = ~np.isnan(own)
    parts = np.stack([np.where(known, own, 0.0), known], axis=1).astype(np.float64)
    return Sums(parts, lambda sums: _ratio(sums[..., 0], sums[..., 1]))


@lru_cache(maxsize=128)
def _singles(task: Regression, scores: bytes, truth: bytes) -> dict[str, Array]:
    """Every metric on each clip alone, NaN where it is not defined; kept, since rows are compared in many metrics."""
    pairs = zip(np.frombuffer(scores, np.float32), np.frombuffer(truth, np.float32), strict=True)
    found = [compute_metrics(task, np.array([[score]]), np.array([label])) for score, label in pairs]
    return {name: np.array([own.get(name, np.nan) for own in found]) for name in MEANS}


def _moments(truth: Array, guess: Array, known: NDArray[np.bool_], finish: Callable[[Array], Array]) -> Sums:
    # Both around the truth's mean: an origin that every row shares, since rows are mixed in a test.
    origin = truth[known].mean() if known.any() else 0.0
    t, g = (np.where(known, v - origin, 0.0) for v in (truth, guess))
    return Sums(np.stack([known, t, g, t * t, g * g, t * g], axis=1).astype(np.float64), finish)


def _central(sums: Array) -> tuple[Array, Array, Array, Array]:
    """Variances of truth and guess, their covariance (all over n), and the difference of their means."""
    n = np.maximum(sums[..., 0], 1.0)
    t, g = sums[..., 1] / n, sums[..., 2] / n
    return sums[..., 3] / n - t * t, sums[..., 4] / n - g * g, sums[..., 5] / n - t * g, t - g


def _pearson(sums: Array) -> Array:
    truth, guess, both, _ = _central(sums)
    scale = np.sqrt(np.maximum(truth, 0) * np.maximum(guess, 0))
    # 0 for a constant, as in `mmsa.metrics.pearson`
    value = np.where(scale > 1e-12, both / np.where(scale > 1e-12, scale, 1.0), 0.0)
    return np.where(sums[..., 0] > 0, value, np.nan)


def _concordance(sums: Array) -> Array:
    truth, guess, both, gap = _central(sums)
    return _ratio(2 * both, truth + guess + gap * gap)


def _confusion(
    truth: NDArray[Any],
    guess: NDArray[Any],
    known: NDArray[np.bool_],
    classes: int,
    finish: Callable[[Array], Array],
) -> Sums:
    parts = np.zeros((len(truth), classes * classes))
    parts[np.arange(len(truth)), truth * classes + guess] = known
    return Sums(parts, lambda sums: finish(sums.reshape(*sums.shape[:-1], classes, classes)))


def _ratio(above: Array, below: Array) -> Array:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _class_f1(counts: Array) -> tuple[Array, Array, Array]:
    """F1 of each class `(…, C)`, how often each is true, and how often it is true or predicted."""
    support, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return 2 * hits / np.maximum(support + predicted, 1), support, support + predicted


def _accuracy(counts: Array) -> Array:
    hits = np.trace(counts, axis1=-2, axis2=-1)
    return _ratio(np.asarray(hits), counts.sum(axis=(-2, -1)))


def _weighted_f1(counts: Array) -> Array:
    f1, support, _ = _class_f1(counts)
    return _ratio((f1 * support).sum(axis=-1), support.sum(axis=-1))


def _macro_f1(counts: Array) -> Array:
    f1, _, seen = _class_f1(counts)
    return _ratio((f1 * (seen > 0)).sum(axis=-1), (seen > 0).sum(axis=-1).astype(np.float64))


def _uar(counts: Array) -> Array:
    support = counts.sum(axis=-1)
    recall = np.diagonal(counts, axis1=-2, axis2=-1) / np.maximum(support, 1)
    return _ratio((recall * (support > 0)).sum(axis=-1), (support > 0).sum(axis=-1).astype(np.float64))


def _one_f1(index: int) -> Callable[[Array], Array]:
    def finish(counts: Array) -> Array:
        f1, support, _ = _class_f1(counts)
        return np.where(support[..., index] > 0, f1[..., index], np.nan)

    return finish
