"""Parts of the test split that are reported apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.benchmarking.pooled import Pooled
from mmsa.benchmarking.store import Values
from mmsa.benchmarking.sums import metric_of
from mmsa.metrics import class_keys
from mmsa.recipe import ATTRIBUTE
from mmsa.tasks import Regression, Task

Mask = NDArray[np.bool_]

MOST_SPEAKERS = 12
LEAST_CLIPS = 10
"""Of a speaker who is named; the others are put together."""

OTHERS = "all others"


@dataclass(frozen=True)
class Cell:
    """A row's metric in one group.

    Attributes:
        mean: over seeds; NaN where it is not defined.
        std: over seeds; NaN with one.
    """

    mean: float
    std: float


@dataclass(frozen=True)
class SliceTable:
    """One way to cut the test split.

    Attributes:
        kind: one of `mmsa.recipe.SLICES`, or `"attribute.NAME"`.
        metric: `"<task>.<metric>"`; for classes, what stands before the class.
        groups: name and number of clips of each part.
        rows: by row, a cell per group.
        note: what must be known to read it, or why it is empty.
    """

    kind: str
    metric: str
    groups: tuple[tuple[str, int], ...]
    rows: Mapping[str, tuple[Cell, ...]]
    note: str = ""


def cut(kind: str, metrics: Sequence[str], rows: Mapping[str, Pooled]) -> Iterator[SliceTable]:
    """The tables of one kind of slice: one for the first metric of each task.

    Args:
        kind: one of `mmsa.recipe.SLICES`, or `"attribute.NAME"`.
        metrics: `"<task>.<metric>"`, in the order of the leaderboard.
        rows: predictions by row; the groups are those of the first row that has the task.
    """
    leading: dict[str, str] = {}
    for metric in metrics:
        task_name, _, name = metric.rpartition(".")
        leading.setdefault(task_name, name)
    for task_name, name in leading.items():
        own = {row: pooled for row, pooled in rows.items() if pooled.task(task_name) is not None}
        if own:
            yield _table(kind, task_name, name, own)


def _table(kind: str, task_name: str, name: str, rows: Mapping[str, Pooled]) -> SliceTable:
    first = next(iter(rows.values()))
    task = first.task(task_name)
    assert task is not None
    if kind == "missing":
        return _missing(task, name, rows)
    if kind == "class" and not isinstance(task, Regression):
        return _classes(task, rows)
    groups, note = _groups(kind, task, first)
    cells = {}
    for row, pooled in rows.items():
        order = pooled.on(first.clips)
        if order is not None:
            cells[row] = tuple(_cell(task, name, pooled, order[mask]) for _, mask in groups)
    sizes = tuple((label, int((mask & _known(first.labels[task.name])).sum())) for label, mask in groups)
    return SliceTable(kind, f"{task.name}.{name}", sizes, cells if groups else {}, note)


def _known(labels: Values) -> Mask:
    found: Mask = ~np.isnan(labels).reshape(len(labels), -1).any(axis=1)
    return found


def _cell(task: Task, name: str, pooled: Pooled, index: NDArray[np.int64]) -> Cell:
    labels = pooled.labels[task.name][index]
    return _summary([metric_of(task, name, own[task.name][index], labels) for own in pooled.outputs])


def _summary(values: Sequence[float]) -> Cell:
    return Cell(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"))


def _missing(task: Task, name: str, rows: Mapping[str, Pooled]) -> SliceTable:
    subsets = list(dict.fromkeys(key for pooled in rows.values() for own in pooled.subsets for key in own))
    if not subsets:
        return SliceTable("missing", f"{task.name}.{name}", (), {}, "Every row was trained on one modality.")
    cells = {}
    for row, pooled in rows.items():
        labels = pooled.labels[task.name]
        whole = _summary([metric_of(task, name, own[task.name], labels) for own in pooled.outputs])
        parts = [
            _summary([metric_of(task, name, own[key][task.name], labels) for own in pooled.subsets])
            if all(key in own for own in pooled.subsets)
            else Cell(float("nan"), float("nan"))
            for key in subsets
        ]
        cells[row] = (*parts, whole)
    count = int(_known(next(iter(rows.values())).labels[task.name]).sum())
    groups = (*((f"only {key}", count) for key in subsets), ("all", count))
    note = "The rest is withheld at test time; nothing was trained anew."
    return SliceTable("missing", f"{task.name}.{name}", groups, cells, note)


def _classes(task: Any, rows: Mapping[str, Pooled]) -> SliceTable:
    first = next(iter(rows.values()))
    labels = first.labels[task.name]
    known = _known(labels)
    has = labels[known] if labels.ndim > 1 else labels[known][:, None] == np.arange(task.output_dim)
    counts = has.sum(axis=0).astype(int)
    shown = [i for i in range(task.output_dim) if counts[i]]
    keys = class_keys(task.classes)
    cells = {
        row: tuple(
            _summary(
                [metric_of(task, f"f1_{keys[i]}", own[task.name], pooled.labels[task.name]) for own in pooled.outputs]
            )
            for i in shown
        )
        for row, pooled in rows.items()
    }
    groups = tuple((task.classes[i], int(counts[i])) for i in shown)
    return SliceTable(
        "class", f"{task.name}.f1", groups, cells, "F1 of each class; clips that truly have it in brackets."
    )


Groups = list[tuple[str, Mask]]


def _groups(kind: str, task: Task, pooled: Pooled) -> tuple[Groups, str]:
    if kind == "speaker":
        return _speakers([facts.speaker for facts in pooled.facts])
    if kind == "length":
        return _lengths(pooled)
    if kind == "congruent":
        return _congruence([facts.congruent for facts in pooled.facts])
    if kind.startswith(ATTRIBUTE):
        return _by_attribute(kind.removeprefix(ATTRIBUTE), pooled)
    labels = pooled.labels[task.name]
    return [("negative", labels < 0), ("zero", labels == 0), ("positive", labels > 0)], "By the sign of the label."


def _speakers(speakers: Sequence[str | None]) -> tuple[Groups, str]:
    counts = Counter(speaker for speaker in speakers if speaker is not None)
    named = [name for name, count in counts.most_common(MOST_SPEAKERS) if count >= LEAST_CLIPS]
    if not counts:
        return [], "The corpus does not say who speaks."
    groups = [(name, np.array([speaker == name for speaker in speakers])) for name in named]
    rest = np.array([speaker is not None and speaker not in named for speaker in speakers])
    others = len(counts) - len(named)
    return (
        groups + ([(OTHERS, rest)] if rest.any() else []),
        f"{OTHERS} are {others} speakers." if others else "",
    )


def _lengths(pooled: Pooled) -> tuple[Groups, str]:
    for unit in ("words", "seconds"):
        values = [getattr(facts, unit) for facts in pooled.facts]
        known = np.array([value is not None for value in values])
        if known.mean() >= 0.5:
            break
    else:
        return [], "Neither transcripts nor times say how long the clips are."
    length = np.array([np.nan if value is None else float(value) for value in values])
    low, high = np.quantile(length[known], [1 / 3, 2 / 3], method="inverted_cdf")
    masks = [length <= low, (length > low) & (length <= high), length > high]
    groups = [(_span(length[mask], unit), mask) for mask in masks if mask.any()]
    return groups, f"Terciles of the test clips by {unit}."


def _span(values: NDArray[np.float64], unit: str) -> str:
    first, last = f"{values.min():g}", f"{values.max():g}"
    return f"{first} {unit}" if first == last else f"{first} to {last} {unit}"


def _by_attribute(name: str, pooled: Pooled) -> tuple[Groups, str]:
    """A part per value, the largest first; clips of which the corpus does not say it come last."""
    values = [facts.attributes.get(name) for facts in pooled.facts]
    counts = Counter(value for value in values if value is not None)
    if not counts:
        known = sorted({key for facts in pooled.facts for key in facts.attributes})
        there = f"; it has {', '.join(known)}" if known else ""
        return [], f"The corpus has no attribute {name} that sorts its clips{there}."
    groups = [(value, np.array([own == value for own in values])) for value, _ in counts.most_common()]
    unsaid = np.array([value is None for value in values])
    return groups + ([("not said", unsaid)] if unsaid.any() else []), f"By the corpus's own attribute {name}."


def _congruence(said: Sequence[bool | None]) -> tuple[Groups, str]:
    if all(value is None for value in said):
        return [], "The corpus has no labels of single modalities, so nobody knows which clips contradict themselves."
    groups = [("congruent", np.array([value is True for value in said]))]
    groups.append(("incongruent", np.array([value is False for value in said])))
    return groups, "Incongruent: one modality says positive, another one negative."
