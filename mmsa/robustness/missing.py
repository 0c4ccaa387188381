"""Clips that lose modalities at random, answered from what the model said about every subset of modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[np.float32]]
Present = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Thinned:
    """What is left of a split's modalities.

    Attributes:
        kept: `(N, M)`, which modalities each clip still has.
        realised: the share of the modalities at hand that went; below the rate asked for, since one always stays.
    """

    kept: Present
    realised: float


def thin_out(present: Present, rate: float, *, seed: int, repeat: int) -> Thinned:
    """Take each modality of each clip away with a chance; the last one of a clip always stays.

    What goes at one rate also goes at every higher one (for the same seed and repeat).

    Args:
        present: `(N, M)`, what each clip has.
        rate: chance in [0, 1].
        seed: of the draws.
        repeat: another repeat draws anew.
    """
    draws = np.where(present, np.random.default_rng([seed, repeat]).random(present.shape), -1.0)
    kept = present & (draws >= rate)
    lonely = np.flatnonzero(~kept.any(axis=1) & present.any(axis=1))
    kept[lonely, draws[lonely].argmax(axis=1)] = True
    gone = int(present.sum() - kept.sum())
    return Thinned(kept, gone / max(1, int(present.sum())))


def look_up(
    found: Mapping[tuple[str, ...], Outputs], modalities: tuple[str, ...], kept: Present
) -> dict[str, NDArray[np.float32]]:
    """The outputs of each clip for exactly the modalities it has left.

    A model's answer to a clip depends on nothing but that clip's own modalities, so nothing has to be run again.

    Args:
        found: outputs `(N, …)` by task, for every non-empty subset of `modalities`, each in their order.
        modalities: `M` of them.
        kept: `(N, M)`. A clip without any is answered as with all.
    """
    answers = {task: np.array(own) for task, own in found[modalities].items()}
    for subset, outputs in found.items():
        wanted = np.array([key in subset for key in modalities])
        rows = (kept == wanted).all(axis=1)
        for task, own in outputs.items():
            answers[task][rows] = own[rows]
    return answers
