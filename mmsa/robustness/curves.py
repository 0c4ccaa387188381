"""Curves: a model's metrics as its input gets worse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.robustness.missing import look_up, thin_out
from mmsa.robustness.noise import Noise

MISSING = Noise("missing", "", "modalities missing at random, share", 0, 1)
"""The axis of curves under missing modalities."""

RATES = tuple(round(0.1 * i, 1) for i in range(11))

Outputs = Mapping[str, NDArray[np.float32]]
Measure = Callable[[Outputs], dict[str, float]]


@dataclass(frozen=True)
class Point:
    """A model at one level.

    Attributes:
        level: on the curve's axis; None is the untouched input.
        metrics: `"<task>.<metric>"`, with every modality that the level leaves; means, where the draw is repeated.
        spread: standard deviation over the repeats; empty where there is one.
        alone: metrics of the damaged modality alone; empty where no single one is damaged or there is no other.
        realised: the level measured on the clips, where that is not the level itself by construction.
        without: ids of clips that lose the damaged modality altogether at this level.
    """

    level: float | None
    metrics: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)
    alone: Mapping[str, float] = field(default_factory=dict)
    realised: float | None = None
    without: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


@dataclass(frozen=True)
class Curve:
    """A model at several levels, the mildest first.

    Attributes:
        noise: what the levels measure.
        points: the first is the untouched input (a share of 0, where nothing is missing).
        floor: metrics on untouched input without the damaged modality; empty where no single one is damaged, or
            where nothing is left without it.
        lacking: ids of clips that never had the damaged modality.
    """

    noise: Noise
    points: tuple[Point, ...]
    floor: Mapping[str, float] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether levels were measured on the clips."""
        return any(point.realised is not None for point in self.points)

    @property
    def has_alone(self) -> bool:
        """Whether the damaged modality was also judged alone, beside others."""
        return any(point.alone for point in self.points)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "noise": self.noise.name,
            "axis": self.noise.axis,
            "modality": self.noise.modality or None,
            "points": [point.to_dict() for point in self.points],
            "floor": dict(self.floor),
            "lacking": list(self.lacking),
        }


def missing_curve(
    found: Mapping[tuple[str, ...], Outputs],
    modalities: tuple[str, ...],
    present: NDArray[np.bool_],
    measure: Measure,
    *,
    seed: int,
    repeats: int,
    rates: Sequence[float] = RATES,
) -> Curve:
    """The model with modalities of each clip missing at random.

    Args:
        found: outputs by task for every non-empty subset of `modalities`.
        modalities: `M` of them.
        present: `(N, M)`, what each clip has.
        measure: metrics of outputs.
        seed: of the draws.
        repeats: how many draws are averaged.
        rates: chances of each modality of a clip to be missing; the last one of a clip never is.
    """
    points = []
    for rate in rates:
        draws = [thin_out(present, rate, seed=seed, repeat=repeat) for repeat in range(repeats)]
        metrics = [measure(look_up(found, modalities, draw.kept)) for draw in draws]
        mean, spread = _summary(metrics)
        points.append(Point(rate, mean, spread, realised=float(np.mean([draw.realised for draw in draws]))))
    return Curve(MISSING, tuple(points))


def _summary(metrics: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and standard deviation (N - 1) of each metric that every repeat has."""
    shared = [key for key in metrics[0] if all(key in own for own in metrics)]
    values = {key: np.array([own[key] for own in metrics]) for key in shared}
    mean = {key: float(own.mean()) for key, own in values.items()}
    if len(metrics) == 1:
        return mean, {}
    return mean, {key: float(own.std(ddof=1)) for key, own in values.items()}
