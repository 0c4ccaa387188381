"""The field's metrics, with the definitions that published tables use.

All regression metrics take predictions and truths `(N,)`; all classification metrics take logits or
probabilities `(N, C)` and class indices `(N,)`. Clips without a label (NaN) are left out before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.tasks import Classification, Regression, Task

Vector = NDArray[np.floating[Any]]


def compute_metrics(task: Task, prediction: Vector, target: Vector) -> dict[str, float]:
    """Every metric of a task.

    Args:
        task: what was predicted.
        prediction: `(N, output_dim)`.
        target: `(N,)`: scores or class indices; NaN where a clip has no label.

    Returns:
        Metric by name; empty when no clip has a label.
    """
    known = ~np.isnan(target)
    if not known.any():
        return {}
    if isinstance(task, Classification):
        return classification_metrics(prediction[known], target[known].astype(int))
    return REGRESSION_SETS[task.metrics](task, prediction[known, 0].astype(float), target[known].astype(float))


def classification_metrics(scores: Vector, truth: NDArray[np.int_]) -> dict[str, float]:
    """Accuracy, weighted F1 (MELD's measure), macro F1 and unweighted average recall (UAR).

    As in scikit-learn's `f1_score` with `average="weighted"` and `"macro"`, and `balanced_accuracy_score`. Macro F1
    and UAR average over the classes that occur in the truth (for F1: or in the prediction).
    """
    from sklearn.metrics import f1_score, recall_score

    guess = scores.argmax(axis=1)
    return {
        "accuracy": float((guess == truth).mean()),
        "weighted_f1": float(f1_score(truth, guess, average="weighted", zero_division=0)),
        "macro_f1": float(f1_score(truth, guess, average="macro", zero_division=0)),
        "uar": float(recall_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)),
    }


def plain_metrics(task: Regression, prediction: Vector, truth: Vector) -> dict[str, float]:
    """Mean absolute error and Pearson correlation."""
    del task
    return {"mae": float(np.abs(prediction - truth).mean()), "corr": pearson(prediction, truth)}


def mosi_metrics(task: Regression, prediction: Vector, truth: Vector) -> dict[str, float]:
    """CMU-MOSI's and MOSEI's set, as MMSA computes it.

    `has0`: negative against non-negative over all clips; `non0`: negative against positive, clips with truth 0 left
    out. Acc-7 and Acc-5 round (half to even) after clipping to ±3 and ±2. MAE does not clip. F1 is weighted.
    """
    from sklearn.metrics import f1_score

    has0 = (truth >= 0, prediction >= 0)
    some = truth != 0
    non0 = (truth[some] > 0, prediction[some] > 0)
    metrics = plain_metrics(task, prediction, truth)
    for limit, name in ((3, "acc_7"), (2, "acc_5")):
        same = np.round(np.clip(prediction, -limit, limit)) == np.round(np.clip(truth, -limit, limit))
        metrics[name] = float(same.mean())
    for name, (true, guess) in (("has0", has0), ("non0", non0)):
        if len(true):
            metrics[f"acc_2_{name}"] = float((true == guess).mean())
            metrics[f"f1_{name}"] = float(f1_score(true, guess, average="weighted", zero_division=0))
    return metrics


def sims_metrics(task: Regression, prediction: Vector, truth: Vector) -> dict[str, float]:
    """CH-SIMS's set, as MMSA computes it: all on values clipped to [-1, 1], right-closed bins.

    Acc-2 is non-positive against positive; Acc-3 cuts at ±0.1; Acc-5 at ±0.1 and ±0.7.
    """
    from sklearn.metrics import f1_score

    prediction, truth = np.clip(prediction, -1, 1), np.clip(truth, -1, 1)
    metrics = plain_metrics(task, prediction, truth)
    for name, edges in (("acc_2", [0.0]), ("acc_3", [-0.1, 0.1]), ("acc_5", [-0.7, -0.1, 0.1, 0.7])):
        # In single precision, as labels and outputs are: in double, a label of 0.1 would lie above the edge 0.1.
        cuts = np.array(edges, np.float32)
        true, guess = (np.digitize(v.astype(np.float32), cuts, right=True) for v in (truth, prediction))
        metrics[name] = float((true == guess).mean())
        if name == "acc_2":
            metrics["f1"] = float(f1_score(true, guess, average="weighted", zero_division=0))
    return metrics


def pearson(prediction: Vector, truth: Vector) -> float:
    """Pearson's correlation; 0 where one side is constant or only one clip is there, since it is undefined."""
    if len(truth) < 2 or np.ptp(prediction) == 0 or np.ptp(truth) == 0:
        return 0.0
    return float(np.corrcoef(prediction, truth)[0, 1])


REGRESSION_SETS: dict[str, Callable[[Regression, Vector, Vector], dict[str, float]]] = {
    "plain": plain_metrics,
    "mosi": mosi_metrics,
    "sims": sims_metrics,
}
