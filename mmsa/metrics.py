"""The field's metrics, with the definitions that published tables use; docs/tasks.md spells them out.

Regression metrics take predictions and truths `(N,)`; classification metrics take logits or probabilities `(N, C)`
and class indices `(N,)`; multi-label metrics take logits `(N, C)` and ones and zeros `(N, C)`. Clips without a label
(NaN) are left out before. No name of a metric holds a dot, so that the last dot of `emotion.f1_joy` ends the task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmsa.errors import unknown
from mmsa.tasks import Classification, Regression, Task

Vector = NDArray[np.floating[Any]]
Direction = Literal["max", "min"]

DIRECTIONS: Mapping[str, Direction] = {
    "loss": "min",
    "mae": "min",
    "corr": "max",
    "ccc": "max",
    "r2": "max",
    "acc_7": "max",
    "acc_5": "max",
    "acc_3": "max",
    "acc_2": "max",
    "f1": "max",
    "acc_2_has0": "max",
    "f1_has0": "max",
    "acc_2_non0": "max",
    "f1_non0": "max",
    "acc_2_weak": "max",
    "accuracy": "max",
    "weighted_f1": "max",
    "macro_f1": "max",
    "micro_f1": "max",
    "uar": "max",
    "wa": "max",
}
"""Whether more or less is better. Metrics of one class (`f1_joy`) go by what stands before the class."""

REGRESSION_NAMES: Mapping[str, tuple[str, ...]] = {
    "plain": ("mae", "corr", "ccc"),
    "mosi": ("mae", "corr", "acc_7", "acc_5", "acc_2_has0", "f1_has0", "acc_2_non0", "f1_non0"),
    "sims": ("mae", "corr", "acc_2", "f1", "acc_3", "acc_5"),
    "simsv2": ("mae", "corr", "acc_2", "f1", "acc_3", "acc_5", "acc_2_weak", "r2"),
}
CLASSIFICATION_NAMES = ("accuracy", "weighted_f1", "macro_f1", "uar")
MULTI_LABEL_NAMES = ("wa", "weighted_f1", "micro_f1", "macro_f1")
PER_CLASS = {"classification": ("f1",), "multi-label": ("f1", "weighted_f1", "wa")}
"""What is also reported class by class, as `f1_<class>`; up to `PER_CLASS_LIMIT` classes, `per_class` has them all."""

PER_CLASS_LIMIT = 20
WEAK = 0.4
"""CH-SIMS v2 calls sentiments weak that lie within this distance from 0."""


def direction(metric: str) -> Direction:
    """Whether more or less of a metric is better, given as `"mae"` or as `"sentiment.mae"`.

    Raises:
        UsageError: no such metric.

    Example:
        >>> direction("sentiment.mae"), direction("emotion.f1_joy")
        ('min', 'max')
    """
    name = metric.rsplit(".", 1)[-1]
    for known in (name, *sorted({kind for kinds in PER_CLASS.values() for kind in kinds}, key=len, reverse=True)):
        if known in DIRECTIONS and (name == known or name.startswith(f"{known}_")):
            return DIRECTIONS[known]
    raise unknown("metric", metric, DIRECTIONS)


def headline(task: Task) -> str:
    """The one metric to rank by: MAE, MELD's weighted F1, or MOSEI's weighted accuracy of emotions."""
    if isinstance(task, Regression):
        return "mae"
    return "weighted_f1" if isinstance(task, Classification) else "wa"


def metric_names(task: Task) -> tuple[str, ...]:
    """Every metric that `compute_metrics` may report for a task, in order."""
    if isinstance(task, Regression):
        return REGRESSION_NAMES[task.metrics]
    names = CLASSIFICATION_NAMES if isinstance(task, Classification) else MULTI_LABEL_NAMES
    if task.output_dim > PER_CLASS_LIMIT:
        return names
    kinds = PER_CLASS["classification" if isinstance(task, Classification) else "multi-label"]
    return (*names, *(f"{kind}_{key}" for key in class_keys(task.classes) for kind in kinds))


def class_keys(classes: Sequence[str]) -> tuple[str, ...]:
    """Names of classes as they can stand in the name of a metric: letters, digits, `_` and `-`, no two alike.

    Example:
        >>> class_keys(["joy", "anger/disgust", "anger disgust"])
        ('joy', 'anger_disgust', 'anger_disgust_')
    """
    keys: list[str] = []
    for name in classes:
        key = re.sub(r"[^\w-]", "_", name)
        while key in keys:
            key += "_"
        keys.append(key)
    return tuple(keys)


def compute_metrics(task: Task, prediction: Vector, target: Vector) -> dict[str, float]:
    """Every metric of a task that is defined on these clips.

    Args:
        task: what was predicted.
        prediction: `(N, output_dim)`.
        target: `(N,)`, scores or class indices, or `(N, C)`, ones and zeros; NaN where a clip has no label.

    Returns:
        Metric by name, of `metric_names(task)`; empty when no clip has a label.
    """
    prediction, target = _labelled(prediction, target)
    if not len(target):
        return {}
    if isinstance(task, Regression):
        return REGRESSION_SETS[task.metrics](task, prediction[:, 0].astype(float), target.astype(float))
    if isinstance(task, Classification):
        return classification_metrics(prediction, target.astype(int), task.classes)
    return multi_label_metrics(prediction, target > 0, task.classes)


def _labelled(prediction: Vector, target: Vector) -> tuple[Vector, Vector]:
    known = ~np.isnan(target).reshape(len(target), -1).any(axis=1)
    return prediction[known], target[known]


def confusion(guess: NDArray[np.int_], truth: NDArray[np.int_], classes: int) -> NDArray[np.int64]:
    """`(C, C)` counts of clips, true class by predicted class."""
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def _f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """`(C,)` F1 of each class of a confusion: 2 · hits / (true + predicted), 0 for a class that occurs nowhere."""
    f1: NDArray[np.float64] = 2 * counts.diagonal() / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)
    return f1


def weighted_f1(counts: NDArray[np.int64]) -> float:
    """Mean of the classes' F1, weighted by how often each is true; scikit-learn's `average="weighted"`."""
    return float((_f1(counts) * counts.sum(axis=1)).sum() / counts.sum())


def _binary(guess: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Accuracy and weighted F1 of two classes."""
    counts = confusion(guess.astype(int), truth.astype(int), 2)
    return float(counts.trace() / counts.sum()), weighted_f1(counts)


def classification_metrics(
    scores: Vector, truth: NDArray[np.int_], classes: Sequence[str] | None = None
) -> dict[str, float]:
    """Accuracy, weighted F1 (MELD's and IEMOCAP's measure), macro F1 and unweighted average recall (UAR).

    As in scikit-learn's `f1_score` with `average="weighted"` and `"macro"`, and `balanced_accuracy_score`. Macro F1
    and UAR average over the classes that occur in the truth (for F1: or in the prediction). With the names of the
    classes, also `f1_<class>` of each that occurs in the truth.
    """
    counts = confusion(scores.argmax(axis=1), truth, scores.shape[1])
    f1, support = _f1(counts), counts.sum(axis=1)
    true, shown = support > 0, support + counts.sum(axis=0) > 0
    metrics = {
        "accuracy": float(counts.trace() / counts.sum()),
        "weighted_f1": weighted_f1(counts),
        "macro_f1": float(f1[shown].mean()),
        "uar": float((counts.diagonal()[true] / support[true]).mean()),
    }
    if classes is not None and len(classes) <= PER_CLASS_LIMIT:
        metrics.update({f"f1_{key}": float(f1[i]) for i, key in enumerate(class_keys(classes)) if true[i]})
    return metrics


def multi_label_metrics(scores: Vector, truth: NDArray[np.bool_], classes: Sequence[str]) -> dict[str, float]:
    """Class by class as papers on MOSEI's emotions do, and over all decisions.

    A class is predicted where its logit is positive (probability above one half). Each class is a problem of two:
    `f1_<class>` is the F1 of its presence; `weighted_f1_<class>` averages the F1 of presence and of absence by their
    numbers; `wa_<class>` is the weighted accuracy (TP · N / P + TN) / 2N of Zadeh et al., "Multimodal Language Analysis
    in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph", ACL 2018: the mean of the recalls of
    presence and of absence. `wa` and `weighted_f1` are the means over classes; `micro_f1` counts all decisions
    together; `macro_f1` is the mean of `f1_<class>` over classes that occur in the truth or in the prediction.
    What the truth leaves undefined (a class that no clip has, or that all have) is not reported and not averaged.
    """
    guess = scores > 0
    counts = [confusion(guess[:, i].astype(int), truth[:, i].astype(int), 2) for i in range(len(classes))]
    present = [_f1(own)[1] for own in counts]
    found: dict[str, dict[str, float]] = {"f1": {}, "weighted_f1": {}, "wa": {}}
    for key, own, f1 in zip(class_keys(classes), counts, present, strict=True):
        negatives, positives = own.sum(axis=1)
        found["weighted_f1"][key] = weighted_f1(own)
        if positives:
            found["f1"][key] = float(f1)
        if positives and negatives:
            found["wa"][key] = float((own[1, 1] / positives + own[0, 0] / negatives) / 2)
    shown = [bool(own[1].any() or own[:, 1].any()) for own in counts]
    metrics = {"wa": float(np.mean(list(found["wa"].values())))} if found["wa"] else {}
    metrics["weighted_f1"] = float(np.mean(list(found["weighted_f1"].values())))
    if any(shown):
        metrics["micro_f1"] = float(_f1(np.sum(counts, axis=0))[1])
        metrics["macro_f1"] = float(np.mean([f1 for f1, keep in zip(present, shown, strict=True) if keep]))
    if len(classes) <= PER_CLASS_LIMIT:
        metrics.update({f"{kind}_{key}": value for kind, own in found.items() for key, value in own.items()})
    return metrics


@dataclass(frozen=True)
class ClassReport:
    """How one class fares.

    Attributes:
        name: of the class.
        support: clips that truly have it.
        predicted: clips that are said to have it.
        hits: clips that are rightly said to have it.
        precision: share of the predicted ones that have it; 0 where none is predicted.
        recall: share of those that have it that are predicted; NaN where none has it.
        f1: harmonic mean of the two; NaN where no clip has it.
    """

    name: str
    support: int
    predicted: int
    hits: int
    precision: float
    recall: float
    f1: float


def per_class(task: Task, prediction: Vector, target: Vector) -> tuple[ClassReport, ...]:
    """Every class of a task, over labelled clips; none for regression. Arguments as for `compute_metrics`."""
    if isinstance(task, Regression):
        return ()
    prediction, target = _labelled(prediction, target)
    if isinstance(task, Classification):
        order = np.arange(task.output_dim)
        guess, truth = prediction.argmax(axis=1)[:, None] == order, target[:, None] == order
    else:
        guess, truth = prediction > 0, target > 0
    reports = []
    for name, said, true in zip(task.classes, guess.T, truth.T, strict=True):
        hits, support, predicted = int((said & true).sum()), int(true.sum()), int(said.sum())
        recall, f1 = (hits / support, 2 * hits / (support + predicted)) if support else (np.nan, np.nan)
        precision = hits / predicted if predicted else 0.0
        reports.append(ClassReport(name, support, predicted, hits, precision, recall, f1))
    return tuple(reports)


def _errors(prediction: Vector, truth: Vector) -> dict[str, float]:
    return {"mae": float(np.abs(prediction - truth).mean()), "corr": pearson(prediction, truth)}


def plain_metrics(task: Regression, prediction: Vector, truth: Vector) -> dict[str, float]:
    """Mean absolute error, Pearson's correlation and Lin's concordance."""
    del task
    return {**_errors(prediction, truth), "ccc": concordance(prediction, truth)}


def mosi_metrics(task: Regression, prediction: Vector, truth: Vector) -> dict[str, float]:
    """CMU-MOSI's and MOSEI's set, as MMSA computes it.

    `has0`: negative against non-negative over all clips; `non0`: negative against positive, clips with truth 0 left
    out. Acc-7 and Acc-5 round (half to even) after clipping to ±3 and ±2. MAE does not clip. F1 is weighted.
    """
    del task
    metrics = _errors(prediction, truth)
    for limit, name in ((3, "acc_7"), (2, "acc_5")):
        same = np.round(np.clip(prediction, -limit, limit)) == np.round(np.clip(truth, -limit, limit))
        metrics[name] = float(same.mean())
    metrics["acc_2_has0"], metrics["f1_has0"] = _binary(prediction >= 0, truth >= 0)
    some = truth != 0
    if some.any():
        metrics["acc_2_non0"], metrics["f1_non0"] = _binary(prediction[some] > 0, truth[some] > 0)
    return metrics


def sims_metrics(task: Regression, prediction: Vector, truth: Vector) -> dict[str, float]:
    """CH-SIMS's set, as MMSA computes it: all on values clipped to [-1, 1], right-closed bins.

    Acc-2 is non-positive against positive; Acc-3 cuts at ±0.1; Acc-5 at ±0.1 and ±0.7.
    """
    del task
    prediction, truth = np.clip(prediction, -1, 1), np.clip(truth, -1, 1)
    metrics = _errors(prediction, truth)
    metrics["acc_2"], metrics["f1"] = _binary(prediction > 0, truth > 0)
    for name, edges in (("acc_3", [-0.1, 0.1]), ("acc_5", [-0.7, -0.1, 0.1, 0.7])):
        # In single precision, as labels and outputs are: in double, a label of 0.1 would lie above the edge 0.1.
        cuts = np.array(edges, np.float32)
        true, guess = (np.digitize(v.astype(np.float32), cuts, right=True) for v in (truth, prediction))
        metrics[name] = float((true == guess).mean())
    return metrics


def simsv2_metrics(task: Regression, prediction: Vector, truth: Vector) -> dict[str, float]:
    """CH-SIMS v2's set, as its authors' code computes it: CH-SIMS's, Acc-2 on weak sentiments, and R².

    Liu et al., "Make Acoustic and Visual Cues Matter: CH-SIMS v2.0 Dataset and AV-Mixup Consistent Module", ICMI 2022.
    Acc-2-weak is Acc-2 over the clips whose truth lies in [-0.4, 0.4]; R² is of clipped values.
    """
    metrics = sims_metrics(task, prediction, truth)
    weak = np.abs(truth.astype(np.float32)) <= np.float32(WEAK)
    if weak.any():
        metrics["acc_2_weak"] = float(((prediction[weak] > 0) == (truth[weak] > 0)).mean())
    metrics["r2"] = determination(np.clip(prediction, -1, 1), np.clip(truth, -1, 1))
    return metrics


def pearson(prediction: Vector, truth: Vector) -> float:
    """Pearson's correlation; 0 where one side is constant or only one clip is there, since it is undefined."""
    if _is_constant(prediction) or _is_constant(truth):
        return 0.0
    return float(np.clip(np.corrcoef(prediction, truth)[0, 1], -1, 1))


def concordance(prediction: Vector, truth: Vector) -> float:
    """Lin's concordance correlation coefficient: 2 · cov / (var + var + (mean - mean)²), moments over N.

    Lin, "A Concordance Correlation Coefficient to Evaluate Reproducibility", Biometrics 45(1), 1989. 0 where one side
    is constant or only one clip is there.
    """
    if _is_constant(prediction) or _is_constant(truth):
        return 0.0
    apart = prediction.mean() - truth.mean()
    both = ((prediction - prediction.mean()) * (truth - truth.mean())).mean()
    return float(2 * both / (prediction.var() + truth.var() + apart**2))


def determination(prediction: Vector, truth: Vector) -> float:
    """R²: 1 - squared errors / squared deviations from the mean; 0 where the truth is constant."""
    if _is_constant(truth):
        return 0.0
    return float(1 - ((truth - prediction) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def _is_constant(values: Vector) -> bool:
    return len(values) < 2 or bool(np.ptp(values) == 0)


REGRESSION_SETS: dict[str, Callable[[Regression, Vector, Vector], dict[str, float]]] = {
    "plain": plain_metrics,
    "mosi": mosi_metrics,
    "sims": sims_metrics,
    "simsv2": simsv2_metrics,
}
