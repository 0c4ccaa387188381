"""The meta-learner of stacking: weights for combining predictions, fitted for every set of predictors at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""What the strength of the pull towards the average is chosen from."""


@dataclass(frozen=True)
class MetaProblem:
    """Predictions for the same clips and what they should have been.

    Attributes:
        predictions: `(N, M, K)` float64, zeros where a predictor is missing.
        present: `(N, M)` bool.
        target: `(N, K)` float64: one score (`K` is 1), or one-hot over `K` classes; no NaN.
        classes: whether the target is one-hot; then the loss is the cross-entropy, else the squared error.
    """

    predictions: Tensor
    present: Tensor
    target: Tensor
    classes: bool

    def take(self, rows: Tensor) -> MetaProblem:
        """Some of the clips, by index or boolean mask."""
        return MetaProblem(self.predictions[rows], self.present[rows], self.target[rows], self.classes)

    def losses(self, weights: Tensor, intercept: Tensor) -> Tensor:
        """`(N,)` loss of each clip under `weights (M,)` or `(N, M)` and `intercept (K,)` or `(N, K)`."""
        combined = (self.predictions * weights.unsqueeze(-1)).sum(dim=1) + intercept
        if self.classes:
            return -(self.target * F.log_softmax(combined, dim=1)).sum(dim=1)
        return 0.5 * (combined - self.target).square().sum(dim=1)


def subsets(count: int) -> Tensor:
    """`(2^M, M)` bool: row `i` holds the members whose bit is set in `i`.

    Example:
        >>> subsets(2).tolist()
        [[False, False], [True, False], [False, True], [True, True]]
    """
    return (torch.arange(2**count).unsqueeze(1) >> torch.arange(count)) % 2 == 1


def subset_index(present: Tensor) -> Tensor:
    """`(B, M)` bool → `(B,)` int64: the row of `subsets` that each clip has."""
    return (present.long() << torch.arange(present.shape[1], device=present.device)).sum(dim=1)


def fit_subset(
    problem: MetaProblem, subset: Tensor, penalty: float, *, nonnegative: bool = True
) -> tuple[Tensor, Tensor]:
    """The weights for clips in which exactly the predictors of `subset (M,)` are there.

    Every clip that has at least these predictors is used, the others' predictions being ignored; so complete clips
    inform the weights of every subset. Minimises

    `sum_i loss_i(w, b) + penalty * (s^2 |w - 1/|S||^2 + |b|^2) / 2`

    with `s^2` the mean square of the predictions, which makes it ridge regression on predictions of unit size,
    pulled towards the average and not towards zero. Without any clip the solution is the average.

    Returns:
        `w (M,)`, zeros outside the subset, and `b (K,)`.
    """
    rows = problem.take(problem.present[:, subset].all(dim=1))
    used = MetaProblem(rows.predictions[:, subset], rows.present[:, subset], rows.target, rows.classes)
    square = used.predictions.square().mean() if used.predictions.numel() else torch.ones((), dtype=torch.float64)
    scale = square.clamp(min=1e-12).sqrt()
    weights, intercept = _minimise(used, scale, penalty, nonnegative)
    full = weights.new_zeros(len(subset))
    full[subset] = weights
    return full, intercept


def fit_table(problem: MetaProblem, penalty: float, *, nonnegative: bool = True) -> tuple[Tensor, Tensor]:
    """`fit_subset` for every subset: weights `(2^M, M)` and intercepts `(2^M, K)`; the empty subset has zeros."""
    rows = subsets(problem.present.shape[1])
    fitted = [fit_subset(problem, row, penalty, nonnegative=nonnegative) for row in rows[1:]]
    weights = torch.stack([torch.zeros_like(fitted[0][0]), *(weight for weight, _ in fitted)])
    intercepts = torch.stack([torch.zeros_like(fitted[0][1]), *(intercept for _, intercept in fitted)])
    return weights, intercepts


def choose_penalty(
    problem: MetaProblem,
    *,
    penalties: Sequence[float] = PENALTIES,
    folds: int = 5,
    nonnegative: bool = True,
    seed: int = 0,
) -> float:
    """The penalty with the lowest loss in K-fold cross-validation; the strongest where there are fewer than 2 clips.

    Each held-out clip is predicted with the weights of the predictors that it has.
    """
    count = len(problem.target)
    if count < 2:
        return max(penalties)
    totals = dict.fromkeys(penalties, 0.0)
    patterns = torch.unique(problem.present[problem.present.any(dim=1)], dim=0)
    for train, held in fold_indices(count, folds, seed=seed):
        for penalty, pattern in itertools.product(penalties, patterns):
            own = problem.take(held[(problem.present[held] == pattern).all(dim=1)])
            fitted = fit_subset(problem.take(train), pattern, penalty, nonnegative=nonnegative)
            totals[penalty] += float(own.losses(*fitted).sum())
    return min(penalties, key=lambda penalty: totals[penalty])


def fold_indices(count: int, folds: int, *, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Random folds: `(train, held)` index pairs whose `held` parts are disjoint and cover all of `count`.

    Raises:
        ValueError: fewer than two folds, or nothing to divide.
    """
    if folds < 2 or count < 2:
        raise ValueError(f"cross-fitting needs at least 2 folds of at least 2 clips, not {folds} folds of {count}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    fold = torch.arange(count) % min(folds, count)
    return [(order[fold != k].sort().values, order[fold == k].sort().values) for k in range(min(folds, count))]


def out_of_fold(
    count: int,
    fit_predict: Callable[[Tensor, Tensor], Mapping[str, Tensor]],
    *,
    folds: int = 5,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Predictions for every clip from base predictors that have not seen it, by cross-fitting.

    Wolpert, "Stacked Generalization", Neural Networks 1992: the meta-learner must see predictions as they are for
    new clips, not for clips that the base predictors were trained on.

    Args:
        count: number of clips.
        fit_predict: takes the indices to train on and the indices to predict, trains fresh base predictors on the
            former and returns, per modality, `(held, O)` predictions for the latter.
        folds: number of folds; no more than `count` are made.
        seed: of the division.

    Returns:
        `(count, O)` per modality.

    Raises:
        ValueError: too few folds or clips, or `fit_predict` returned another number of predictions than asked for.
    """
    found: dict[str, Tensor] = {}
    for train, held in fold_indices(count, folds, seed=seed):
        for key, prediction in fit_predict(train, held).items():
            if len(prediction) != len(held):
                raise ValueError(f"fit_predict was asked for {len(held)} clips and gave {len(prediction)} for {key}")
            found.setdefault(key, prediction.new_zeros(count, prediction.shape[1]))[held] = prediction
    return found


def _minimise(problem: MetaProblem, scale: Tensor, penalty: float, nonnegative: bool) -> tuple[Tensor, Tensor]:
    """Projected gradient with Nesterov's momentum for strongly convex functions, in units of the scaled weights."""
    _, members, outputs = problem.predictions.shape
    inputs = problem.predictions / scale  # (N, M, K)
    prior = scale / members
    curvature = _curvature(inputs, problem.classes) + penalty
    root = (penalty / curvature) ** 0.5
    momentum = (1 - root) / (1 + root)
    weights, intercept = prior.repeat(members), inputs.new_zeros(outputs)
    ahead_w, ahead_b = weights, intercept
    for _ in range(5000):
        combined = torch.einsum("nmk,m->nk", inputs, ahead_w) + ahead_b
        residual = (torch.softmax(combined, dim=1) if problem.classes else combined) - problem.target
        step_w = torch.einsum("nmk,nk->m", inputs, residual) + penalty * (ahead_w - prior)
        step_b = residual.sum(dim=0) + penalty * ahead_b
        new_w, new_b = ahead_w - step_w / curvature, ahead_b - step_b / curvature
        new_w = new_w.clamp(min=0) if nonnegative else new_w
        change = max(float((new_w - ahead_w).abs().max()), float((new_b - ahead_b).abs().max()))
        ahead_w, ahead_b = new_w + momentum * (new_w - weights), new_b + momentum * (new_b - intercept)
        weights, intercept = new_w, new_b
        if change < 1e-9:
            break
    return weights / scale, intercept


def _curvature(inputs: Tensor, classes: bool) -> float:
    """An upper bound on the second derivative of the summed loss, from the Gram matrix of its linear map."""
    clips, members, outputs = inputs.shape
    ones = torch.eye(outputs, dtype=inputs.dtype).expand(clips, -1, -1)
    design = torch.cat([inputs.transpose(1, 2), ones], dim=2).reshape(-1, members + outputs)  # (N * K, M + K)
    bound = float(torch.linalg.eigvalsh(design.T @ design)[-1])
    # The second derivative of the cross-entropy in the logits is a covariance of one-hot vectors: at most 1/2.
    return bound / 2 if classes else bound
