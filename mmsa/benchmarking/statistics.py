"""How sure one can be: bootstrap intervals and paired permutation tests of any metric, by clusters of clips.

Clips of one video or dialogue are not independent, so whole clusters are resampled. Two sources of chance are kept
apart: the spread over seeds is reported as a standard deviation; the intervals and tests here take the trained models
as they are, score each by the metric's mean over its seeds, and ask how that mean would differ on other clips. An
average of the seeds' predictions is not scored: that would be an ensemble, which nobody who trains one model has.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmsa.benchmarking.sums import Array, Labels, Sums, decompose, metric_of
from mmsa.tasks import Task

BLOCK = 1_000_000
"""Most cells of a matrix of resamples × clusters at a time."""

FEW_CLUSTERS = 10
"""Below so many clusters intervals and tests are rough; the leaderboard says so."""


class Measure(Protocol):
    """A metric's mean over seeds, on clips that are grouped in `C` clusters."""

    @property
    def clusters(self) -> int:
        """How many clusters."""

    def weighted(self, counts: Array) -> Array:
        """The metric where cluster `c` is there `counts[r, c]` times: `(R, C)` → `(R,)`."""

    def swapped(self, other: Any, swaps: NDArray[np.bool_]) -> Array:
        """The metric where the predictions on clusters with `swaps[r, c]` are another row's: `(R, C)` → `(R,)`."""


@dataclass(frozen=True, eq=False)
class FastMeasure:
    """A metric that is a function of sums.

    Attributes:
        sums: per seed `(C, K)`: what each cluster adds.
        whole: per seed, the metric taken apart.
    """

    sums: tuple[Array, ...]
    whole: tuple[Sums, ...]

    @property
    def clusters(self) -> int:
        """How many clusters."""
        return len(self.sums[0])

    def weighted(self, counts: Array) -> Array:
        """See `Measure`."""
        values = [one.finish(counts @ own) for own, one in zip(self.sums, self.whole, strict=True)]
        return np.asarray(np.mean(values, axis=0))

    def swapped(self, other: FastMeasure, swaps: NDArray[np.bool_]) -> Array:
        """See `Measure`."""
        taken = swaps.astype(np.float64)
        values = [
            one.finish(own.sum(axis=0) + taken @ (theirs - own))
            for own, theirs, one in zip(self.sums, other.sums, self.whole, strict=True)
        ]
        return np.asarray(np.mean(values, axis=0))


@dataclass(frozen=True, eq=False)
class SlowMeasure:
    """Any metric, computed anew for every resample.

    Attributes:
        task: what was predicted.
        name: of the metric.
        outputs: per seed `(N, output_dim)`.
        labels: `(N,)` or `(N, C)`.
        members: `(N,)`: the cluster of each clip.
        clusters: how many.
    """

    task: Task
    name: str
    outputs: tuple[Labels, ...]
    labels: Labels
    members: NDArray[np.int64]
    clusters: int

    def weighted(self, counts: Array) -> Array:
        """See `Measure`."""
        rows = []
        for row in counts:
            index = np.repeat(np.arange(len(self.members)), row[self.members].astype(int))
            rows.append(self._value([own[index] for own in self.outputs], self.labels[index]))
        return np.array(rows)

    def swapped(self, other: SlowMeasure, swaps: NDArray[np.bool_]) -> Array:
        """See `Measure`."""
        rows = []
        for row in swaps:
            taken = row[self.members][:, None]
            mixed = [np.where(taken, b, a) for a, b in zip(self.outputs, other.outputs, strict=True)]
            rows.append(self._value(mixed, self.labels))
        return np.array(rows)

    def _value(self, outputs: Sequence[Labels], labels: Labels) -> float:
        if not len(labels):
            return float("nan")
        return float(np.mean([metric_of(self.task, self.name, own, labels) for own in outputs]))


def clusters_of(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """`(N,)`: clusters numbered from 0 in the order in which their keys appear."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def measure(
    task: Task, name: str, outputs: Sequence[Labels], labels: Labels, members: NDArray[np.int64], *, fast: bool = True
) -> FastMeasure | SlowMeasure:
    """A metric's mean over seeds.

    Args:
        task: what was predicted.
        name: of the metric, without its task.
        outputs: per seed `(N, task.output_dim)`, on the same clips.
        labels: `(N,)` or `(N, C)`, NaN where unlabelled.
        members: `(N,)`: the cluster of each clip, from `clusters_of`.
        fast: take the metric apart into sums where that can be done; the same numbers, sooner.
    """
    count = int(members.max()) + 1
    whole = [part for part in (decompose(task, name, own, labels) for own in outputs) if part is not None]
    if len(whole) < len(outputs) or not fast:
        return SlowMeasure(task, name, tuple(outputs), labels, members, count)
    sums = []
    for part in whole:
        own = np.zeros((count, part.parts.shape[1]))
        np.add.at(own, members, part.parts)
        sums.append(own)
    return FastMeasure(tuple(sums), tuple(whole))


@dataclass(frozen=True)
class Interval:
    """A 95 % interval.

    Attributes:
        low: lower end; NaN where there is none.
        high: upper end.
        method: `"BCa"`, or `"percentile"` where BCa is not defined.
    """

    low: float
    high: float
    method: str


def bootstrap_interval(metric: Measure, *, resamples: int = 9999, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Bootstrap over clusters, bias-corrected and accelerated.

    Efron, "Better Bootstrap Confidence Intervals", JASA 82, 1987; the acceleration is the jackknife's over clusters.
    Clusters are drawn whole (Davison & Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). Where
    BCa is not defined (all resamples on one side of the value, or no spread) the percentiles are taken.

    Args:
        metric: on at least two clusters; with one there is no interval.
        resamples: how many.
        seed: of the draws: rows on the same clips get the same ones.
        confidence: of the interval, below 1.
    """
    count = metric.clusters
    if count < 2:
        return Interval(float("nan"), float("nan"), "none")
    rng = np.random.default_rng(seed)
    share = np.full(count, 1 / count)
    drawn = [metric.weighted(rng.multinomial(count, share, size).astype(float)) for size in _blocks(resamples, count)]
    values = np.concatenate(drawn)
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(float("nan"), float("nan"), "none")
    observed = float(metric.weighted(np.ones((1, count)))[0])
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    levels = _bca_levels(metric, observed, values, tails)
    low, high = np.quantile(values, tails if levels is None else levels)
    return Interval(float(low), float(high), "percentile" if levels is None else "BCa")


def _bca_levels(metric: Measure, observed: float, values: Array, tails: Array) -> Array | None:
    from scipy.special import ndtr, ndtri

    below = float((values < observed).mean() + (values <= observed).mean()) / 2
    if not 0 < below < 1:
        return None
    without = [metric.weighted(1 - block) for block in _identity(metric.clusters)]
    left = np.concatenate(without)
    if np.isnan(left).any():
        return None
    gaps = left.mean() - left
    spread = (gaps**2).sum()
    if spread <= 0:
        return None
    acceleration = (gaps**3).sum() / (6 * spread**1.5)
    bias = ndtri(below)
    shifted = bias + ndtri(tails)
    levels: Array = ndtr(bias + shifted / (1 - acceleration * shifted))
    return levels


def paired_test(first: Measure, second: Measure, *, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p of the difference between two rows on the same clips: paired permutation by clusters.

    Under the null hypothesis that both rows predict alike, the two predictions on a cluster may change places. The
    metric is computed anew on the exchanged predictions, so the test holds for any metric, not only for means:
    approximate randomisation (Noreen, "Computer-Intensive Methods for Testing Hypotheses", 1989; Yeh, "More accurate
    tests for the statistical significance of result differences", COLING 2000). All seeds of a cluster change places
    together: they are answers to the same clips. With few clusters all exchanges are enumerated.

    Args:
        first: a row's metric.
        second: another's, on the same clips, clusters and number of seeds.
        resamples: how many exchanges are drawn; 1 is added above and below, so that p is never 0.
        seed: of the draws.

    Raises:
        ValueError: different numbers of clusters.
    """
    count = first.clusters
    if count != second.clusters:
        raise ValueError(f"the rows must be on the same clusters, not {count} and {second.clusters}")
    nothing = np.zeros((1, count), bool)
    observed = abs(first.swapped(second, nothing) - second.swapped(first, nothing))[0]
    if np.isnan(observed):
        return float("nan")
    exact = count < 63 and 2**count <= resamples + 1
    reached, total = (0, 0) if exact else (1, 1)
    for swaps in _all_swaps(count) if exact else _drawn_swaps(count, resamples, seed):
        gaps = abs(first.swapped(second, swaps) - second.swapped(first, swaps))
        # Equal up to rounding is equal: the sums are added in another order.
        reached += int((gaps >= observed - 1e-9 * max(1.0, observed)).sum())
        total += int((~np.isnan(gaps)).sum())
    return reached / total


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for several tests: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _blocks(total: int, width: int) -> Iterator[int]:
    size = max(1, BLOCK // width)
    for start in range(0, total, size):
        yield min(size, total - start)


def _identity(count: int) -> Iterator[Array]:
    start = 0
    for size in _blocks(count, count):
        block = np.zeros((size, count))
        block[np.arange(size), start + np.arange(size)] = 1.0
        start += size
        yield block


def _all_swaps(count: int) -> Iterator[NDArray[np.bool_]]:
    start = 0
    for size in _blocks(2**count, count):
        numbers = np.arange(start, start + size, dtype=np.int64)
        start += size
        yield (numbers[:, None] >> np.arange(count)) & 1 == 1


def _drawn_swaps(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    for size in _blocks(resamples, count):
        yield rng.random((size, count)) < 0.5
