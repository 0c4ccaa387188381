"""Late fusion of classifiers that do not all know the same emotions: what each says, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.scoring.ensemble import EMOTIONS, Label

Vector = NDArray[np.float64]

LEAST_MASS = 1e-6
"""A classifier that leaves less than this to labels that mean an emotion says nothing."""

_SQUARINGS = 64


@dataclass(frozen=True, eq=False)
class Opinion:
    """What one classifier says of a stretch of media.

    Attributes:
        emotions: `(E,)` probabilities, summing to 1; 0 for emotions that it does not know.
        known: `(E,)` which ones it knows.
        weight: how much its word on emotions counts: its weight times what it leaves to labels that mean one.
        valence: in [-1, 1].
        valence_weight: how much its word on valence counts: its weight times what it leaves to labels that have one.
    """

    emotions: Vector
    known: NDArray[np.bool_]
    weight: float
    valence: float
    valence_weight: float


class LabelMap:
    """From the probabilities of a classifier's labels to an opinion.

    Args:
        labels: what each label means, in the order of the probabilities.
        valence: of each emotion, for labels that have none of their own.
        weight: of the classifier.
    """

    def __init__(self, labels: Sequence[Label], valence: Mapping[str, float], weight: float) -> None:
        shares = [[label.emotion.get(name, 0.0) for name in EMOTIONS] for label in labels]
        self._emotions = np.array(shares, np.float64)  # (L, E)
        usual = self._emotions @ np.array([valence[name] for name in EMOTIONS])
        has = [label.valence is not None or bool(label.emotion) for label in labels]
        own = [usual[row] if label.valence is None else label.valence for row, label in enumerate(labels)]
        self._valences, self._has_valence = np.array(own, np.float64), np.array(has, np.float64)
        self._weight = weight

    @property
    def known(self) -> NDArray[np.bool_]:
        """`(E,)` which emotions the classifier knows."""
        return np.asarray(self._emotions.any(axis=0))

    def read(self, probabilities: NDArray[np.floating[Any]], seconds: Vector) -> Opinion | None:
        """The opinion on a stretch; None where the classifier sees nothing in it that means an emotion.

        Each step's probabilities are divided by their sum (those of independent labels need not sum to 1), and the
        steps are averaged, each weighed by how long it lasts.

        Args:
            probabilities: `(T, L)` of the labels, `T` at least 1.
            seconds: `(T,)` how long each step lasts; all count alike where none has a length.
        """
        rows = np.asarray(probabilities, np.float64)
        rows = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)
        lengths = seconds if seconds.sum() > 0 else np.ones(len(rows))
        shares = lengths / lengths.sum() @ rows  # (L,)
        emotions = shares @ self._emotions
        mass, valued = float(emotions.sum()), float(shares @ self._has_valence)
        if mass < LEAST_MASS:
            return None
        valence = float(shares @ (self._valences * self._has_valence)) / valued
        return Opinion(emotions / mass, self.known, self._weight * mass, valence, self._weight * valued)


def pool_emotions(opinions: Sequence[Opinion]) -> Vector:
    """What several classifiers say together of the emotions: `(E,)`, summing to 1.

    The weighted mean of their probabilities (the linear opinion pool: Stone, "The Opinion Pool", 1961), in which a
    classifier says of emotions that it does not know whatever all say together:

        F(e) = Σ_m w_m · ( p_m(e) · F(K_m)  if e ∈ K_m,  else F(e) ),      Σ_m w_m = 1

    `K_m` are the emotions that classifier `m` knows. It has been taught to choose among these alone, so its
    probabilities are read as those given that it is one of them: how likely that is, and how likely every other emotion
    is, is left to those who know more. Where all know all, this is the plain weighted mean. Where one knows all and
    another some, the second only shares out anew, among the emotions it knows, what the first gives them together. An
    emotion that nobody knows has 0.

    `F` is what a walk ends in that begins with all emotions known to anyone alike likely, and in each step asks
    classifier `m`, with chance `w_m`, to name another if it knows the present one. Where the classifiers share emotions
    (every pair linked, perhaps through others) the beginning does not matter; two that share none keep what it gives
    them together.

    Args:
        opinions: at least one.
    """
    count = len(EMOTIONS)
    weights = np.array([one.weight for one in opinions])
    step = np.zeros((count, count))
    for weight, one in zip(weights / weights.sum(), opinions, strict=True):
        stay = np.diag((~one.known).astype(np.float64))
        step += weight * (stay + one.known[:, None] * one.emotions[None, :])
    anyone = np.any([one.known for one in opinions], axis=0)
    for _ in range(_SQUARINGS):
        further = step @ step
        further /= further.sum(axis=1, keepdims=True)  # rounding would double with every squaring
        settled, step = np.abs(further - step).max() < 1e-15, further
        if settled:
            break
    found = anyone / anyone.sum() @ step
    return np.asarray(found / found.sum())


def pool_valence(opinions: Sequence[Opinion]) -> float:
    """The weighted mean of the valences, in [-1, 1].

    Args:
        opinions: at least one.
    """
    weights = np.array([one.valence_weight for one in opinions])
    return float(weights @ [one.valence for one in opinions] / weights.sum())


def pool(opinions: Sequence[Opinion]) -> Vector:
    """Valence, then the emotions: `(1 + E,)`. Of no opinion at all: 0, and all emotions alike."""
    if not opinions:
        return np.array([0.0, *np.full(len(EMOTIONS), 1 / len(EMOTIONS))])
    return np.array([pool_valence(opinions), *pool_emotions(opinions)])


def shapley(opinions: Mapping[str, Opinion], value: Callable[[Sequence[Opinion]], Vector] = pool) -> dict[str, Vector]:
    """How far each classifier moved what they say together: its Shapley value, exactly (see `fusion.shapley_values`).

    They sum to the distance from what is said without any.

    Args:
        opinions: by modality.
        value: of a subset of them.
    """
    keys = sorted(opinions)
    subsets = [set(chosen) for size in range(len(keys) + 1) for chosen in combinations(keys, size)]
    worth = {frozenset(chosen): value([opinions[key] for key in keys if key in chosen]) for chosen in subsets}
    moved = {}
    for key in keys:
        gains = [
            (worth[frozenset({*rest, key})] - worth[frozenset(rest)]) / (len(keys) * comb(len(keys) - 1, len(rest)))
            for rest in subsets
            if key not in rest
        ]
        moved[key] = np.sum(gains, axis=0)
    return moved
