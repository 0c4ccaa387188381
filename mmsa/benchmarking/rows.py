"""Rows of a leaderboard: each metric over seeds, its interval, and the test against the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from mmsa.benchmarking.pooled import Pooled
from mmsa.benchmarking.statistics import (
    FastMeasure,
    Interval,
    bootstrap_interval,
    holm,
    measure,
    paired_test,
)
from mmsa.benchmarking.sums import metric_of
from mmsa.metrics import direction
from mmsa.recipe import HeadEntry, Recipe

Members = NDArray[np.int64]
"""The cluster of each clip."""

SLOW_RESAMPLES = 499
"""Most resamples of a metric that has to be computed anew for each."""


@dataclass(frozen=True)
class Comparison:
    """A row against its reference, in one metric.

    Attributes:
        difference: the row's mean less the reference's.
        p: of the paired permutation test.
        adjusted: the same after Holm's correction over all rows that are tested in this metric.
        better: whether the difference is in the metric's favour.
    """

    difference: float
    p: float
    adjusted: float
    better: bool


@dataclass(frozen=True)
class Value:
    """A row's metric.

    Attributes:
        runs: by seed.
        mean: over seeds.
        std: over seeds (n - 1); NaN with one run.
        interval: of the mean over seeds, on other clips.
        test: against the reference; None where there is none.
    """

    runs: tuple[float, ...]
    mean: float
    std: float
    interval: Interval
    test: Comparison | None = None


@dataclass(frozen=True)
class Row:
    """One head's line.

    Attributes:
        name: in the table.
        head: its short name.
        modalities: what it reads.
        seeds: of its runs; `(None,)` for a head that has none.
        values: by metric.
        reference: the row it is tested against.
        parameters: numbers that were learned, of the first run.
        train_seconds: median over runs.
        epochs: median of what was trained; 0 for a head without.
        options: that differ from the head's defaults.
        choice: what a head without epochs chose on validation, by corpus and task.
        runs: MLflow's ids.
    """

    name: str
    head: str
    modalities: tuple[str, ...]
    seeds: tuple[int | None, ...]
    values: Mapping[str, Value]
    reference: str | None
    parameters: int
    train_seconds: float
    epochs: float
    options: Mapping[str, object]
    choice: Mapping[str, Mapping[str, object]]
    runs: tuple[str, ...]


def compare_rows(
    recipe: Recipe,
    pooled: Mapping[str, Pooled],
    metrics: Sequence[str],
    members: Mapping[str, Members],
    notes: list[str],
) -> list[Row]:
    """Every row that is there, in the recipe's order.

    Args:
        recipe: rows and references.
        pooled: predictions by row.
        metrics: `"<task>.<metric>"`.
        members: clusters by row.
        notes: why a row could not be tested is added here.
    """
    entries = {entry.name: entry for entry in recipe.heads if entry.name in pooled}
    values = {name: {m: _value(pooled[name], m, members[name], recipe.resamples) for m in metrics} for name in entries}
    for metric in metrics:
        p_values: dict[str, tuple[float, float]] = {}
        for name, entry in entries.items():
            reference = recipe.reference_of(entry)
            if reference is None or reference not in pooled:
                continue
            found = _compare(pooled[name], pooled[reference], metric, members[name], recipe.resamples)
            if isinstance(found, str):
                note = f"{name} is not tested against {reference}: {found}."
                notes += [note] if note not in notes else []
            elif not math.isnan(found[1]):
                p_values[name] = found
        adjusted = holm([p for _, p in p_values.values()])
        for (name, (difference, p)), own in zip(p_values.items(), adjusted, strict=True):
            better = difference < 0 if direction(metric) == "min" else difference > 0
            values[name][metric] = replace(values[name][metric], test=Comparison(difference, p, own, better))
    return [_row(entry, recipe, pooled[name], values[name]) for name, entry in entries.items()]


def _value(pooled: Pooled, metric: str, members: Members, resamples: int) -> Value:
    task_name, _, name = metric.rpartition(".")
    task = pooled.task(task_name)
    if task is None:
        nothing = float("nan")
        return Value((), nothing, nothing, Interval(nothing, nothing, "none"))
    labels, outputs = pooled.labels[task_name], [own[task_name] for own in pooled.outputs]
    runs = tuple(metric_of(task, name, own, labels) for own in outputs)
    found = measure(task, name, outputs, labels, members)
    count = resamples if isinstance(found, FastMeasure) else min(resamples, SLOW_RESAMPLES)
    std = float(np.std(runs, ddof=1)) if len(runs) > 1 else float("nan")
    return Value(runs, float(np.mean(runs)), std, bootstrap_interval(found, resamples=count))


def _compare(
    row: Pooled,
    reference: Pooled,
    metric: str,
    members: Members,
    resamples: int,
) -> tuple[float, float] | str:
    """The difference and its p, or why there is none."""
    task_name, _, name = metric.rpartition(".")
    task, other = row.task(task_name), reference.task(task_name)
    order = reference.on(row.clips)
    if task is None or other is None:
        return f"they do not share the task {task_name}"
    if order is None:
        return "they were tested on different clips"
    labels = row.labels[task_name]
    if task != other or not np.array_equal(labels, reference.labels[task_name][order], equal_nan=True):
        return f"their labels of {task_name} differ"
    pairs = _paired_seeds(row.seeds, reference.seeds)
    if not pairs:
        return "they have no seed in common"
    mine = [row.outputs[i][task_name] for i, _ in pairs]
    theirs = [reference.outputs[j][task_name][order] for _, j in pairs]
    first, second = measure(task, name, mine, labels, members), measure(task, name, theirs, labels, members)
    count = resamples
    if not (isinstance(first, FastMeasure) and isinstance(second, FastMeasure)):
        first, second = (measure(task, name, own, labels, members, fast=False) for own in (mine, theirs))
        count = min(resamples, SLOW_RESAMPLES)
    ones = np.ones((1, first.clusters))
    difference = float(first.weighted(ones)[0] - second.weighted(ones)[0])
    return difference, paired_test(first, second, resamples=count)


def _paired_seeds(row: Sequence[int | None], reference: Sequence[int | None]) -> list[tuple[int, int]]:
    """Positions of seeds to compare: the shared ones; a head without seeds stands beside each of the other's."""
    if row == (None,):
        return [(0, j) for j in range(len(reference))]
    if reference == (None,):
        return [(i, 0) for i in range(len(row))]
    return [(i, list(reference).index(seed)) for i, seed in enumerate(row) if seed in reference]


def _row(entry: HeadEntry, recipe: Recipe, pooled: Pooled, values: Mapping[str, Value]) -> Row:
    results = pooled.results
    return Row(
        name=entry.name,
        head=results[0].head,
        modalities=results[0].modalities,
        seeds=pooled.seeds,
        values=dict(values),
        reference=recipe.reference_of(entry),
        parameters=results[0].parameters,
        train_seconds=median(result.train_seconds for result in results),
        epochs=median(result.epochs for result in results),
        options={**entry.options, **{f"train.{key}": value for key, value in entry.train.items()}},
        choice={result.corpus: dict(result.choice) for result in results if result.choice},
        runs=tuple(result.run_id for result in results),
    )


def rank(row: Row, metric: str) -> tuple[float, str]:
    """What sorts the best row first; rows without the metric come last."""
    mean = row.values[metric].mean
    if math.isnan(mean):
        return math.inf, row.name
    return (mean if direction(metric) == "min" else -mean), row.name
