"""The meta-learner against closed forms, brute force and optimality conditions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from fusion.meta_learner import (
    MetaProblem,
    choose_penalty,
    fit_subset,
    fit_table,
    fold_indices,
    out_of_fold,
    subset_index,
    subsets,
)

ALL = torch.tensor([True, True, True])


def score_problem(clips: int = 60, seed: int = 0, noise: tuple[float, ...] = (0.3, 1.0, 3.0)) -> MetaProblem:
    """Predictors that give the target plus noise of their own size, and share some of it."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(clips, 1, generator=generator, dtype=torch.float64)
    shared = torch.randn(clips, 1, generator=generator, dtype=torch.float64)
    own = [size * torch.randn(clips, 1, generator=generator, dtype=torch.float64) for size in noise]
    predictions = torch.stack([target + 0.5 * shared + part for part in own], dim=1)
    return MetaProblem(predictions, torch.ones(clips, len(noise), dtype=torch.bool), target + 0.2, classes=False)


def class_problem(clips: int = 80) -> MetaProblem:
    generator = torch.Generator().manual_seed(0)
    target = one_hot(torch.randint(0, 4, (clips,), generator=generator), 4).double()
    predictions = torch.stack(
        [gain * target + torch.randn(clips, 4, generator=generator, dtype=torch.float64) for gain in (2.0, 1.0, 0.0)],
        dim=1,
    )
    return MetaProblem(predictions, torch.ones(clips, 3, dtype=torch.bool), target, classes=True)


def objective(problem: MetaProblem, penalty: float, weights: Tensor, intercept: Tensor) -> Tensor:
    """The documented objective, with all predictors there."""
    square = problem.predictions.square().mean()
    away = (weights - 1 / problem.predictions.shape[1]).square().sum()
    return problem.losses(weights, intercept).sum() + penalty * (square * away + intercept.square().sum()) / 2


def ridge_by_least_squares(problem: MetaProblem, penalty: float, members: list[int]) -> Tensor:
    """Ridge as ordinary least squares with one extra row per parameter, for weights outside `members` fixed at 0."""
    count = problem.predictions.shape[1]
    square = problem.predictions.square().mean()
    design = torch.cat([problem.predictions[:, members, 0], torch.ones(len(problem.target), 1)], dim=1)
    strength = torch.cat([(penalty * square).sqrt().expand(len(members)), torch.tensor([penalty**0.5])])
    pull = torch.cat([torch.full((len(members),), 1 / count), torch.zeros(1)]).double() * strength
    rows = torch.cat([design, torch.diag(strength)])
    return torch.linalg.lstsq(rows, torch.cat([problem.target[:, 0], pull]).unsqueeze(1)).solution[:, 0]


@pytest.mark.parametrize("penalty", [0.5, 10.0, 1000.0])
def test_unconstrained_scores_are_ridge_regression(penalty: float) -> None:
    problem = score_problem()
    weights, intercept = fit_subset(problem, ALL, penalty, nonnegative=False)
    expected = ridge_by_least_squares(problem, penalty, [0, 1, 2])
    torch.testing.assert_close(torch.cat([weights, intercept]), expected, atol=1e-6, rtol=1e-6)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 200), penalty=st.sampled_from([1.0, 10.0]))
def test_nonnegative_weights_are_the_best_of_all_supports(seed: int, penalty: float) -> None:
    """Try every support: among the ridge solutions on it that are not negative, the best objective must be ours."""
    problem = score_problem(seed=seed, noise=(0.05, 0.1, 0.2, 0.4))
    found, intercept = fit_subset(problem, torch.ones(4, dtype=torch.bool), penalty)
    assert (found >= 0).all()
    best = torch.inf
    for count in range(5):
        for members in combinations(range(4), count):
            solution = ridge_by_least_squares(problem, penalty, list(members))
            if (solution[:-1] >= 0).all():
                full = torch.zeros(4, dtype=torch.float64)
                full[list(members)] = solution[:-1]
                best = min(best, objective(problem, penalty, full, solution[-1:]).item())
    assert objective(problem, penalty, found, intercept).item() == pytest.approx(best, rel=1e-7)


def test_some_weight_would_be_negative_without_the_constraint() -> None:
    """So that the test above tests something."""
    problem = score_problem(seed=3, noise=(0.05, 0.1, 0.2, 0.4))
    free, _ = fit_subset(problem, torch.ones(4, dtype=torch.bool), 1.0, nonnegative=False)
    assert (free < -0.01).any()


def test_classes_meet_the_optimality_conditions() -> None:
    """The gradient of the objective, by autograd, is zero where a weight is free and not negative where it is 0."""
    problem = class_problem()
    weights, intercept = fit_subset(problem, ALL, 1.0)
    weights.requires_grad_()
    intercept.requires_grad_()
    objective(problem, 1.0, weights, intercept).backward()
    free = weights > 0
    assert free.sum() >= 2
    assert weights.grad is not None
    assert intercept.grad is not None
    assert weights.grad[free].abs().max() < 1e-5
    assert (weights.grad[~free] >= -1e-5).all()
    assert intercept.grad.abs().max() < 1e-5


@pytest.mark.parametrize("problem", [score_problem(), class_problem()], ids=["score", "classes"])
def test_a_strong_penalty_gives_the_average_of_those_there(problem: MetaProblem) -> None:
    weights, intercepts = fit_table(problem, 1e9)
    expected = subsets(3).double() / subsets(3).sum(dim=1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(weights, expected, atol=1e-5, rtol=0)
    assert intercepts.abs().max() < 1e-5


def test_without_a_clip_to_learn_from_it_averages() -> None:
    problem = score_problem()
    never_together = problem.present.clone()
    never_together[::2, 0] = False
    never_together[1::2, 1] = False
    weights, intercepts = fit_table(MetaProblem(problem.predictions, never_together, problem.target, False), 1.0)
    torch.testing.assert_close(weights[3], torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))
    assert intercepts[3].item() == 0.0


def test_a_subset_learns_from_clips_that_have_more() -> None:
    """Complete clips with vision ignored teach what clips without vision teach."""
    problem = score_problem()
    blind = problem.present.clone()
    blind[:, 2] = False
    subset = torch.tensor([True, True, False])
    from_complete = fit_subset(problem, subset, 1.0)
    from_blind = fit_subset(MetaProblem(problem.predictions, blind, problem.target, False), subset, 1.0)
    torch.testing.assert_close(from_complete, from_blind)
    assert from_complete[0][2] == 0.0


def test_penalty_follows_what_the_clips_say() -> None:
    """Unequal predictors are worth fitting; equal ones, with few clips to tell them apart, are best averaged."""
    unequal = [choose_penalty(score_problem(clips=100, seed=seed, noise=(0.1, 5.0, 5.0))) for seed in range(5)]
    assert max(unequal) <= 10.0
    equal = []
    for seed in range(9):
        generator = torch.Generator().manual_seed(seed)
        target = torch.randn(8, 1, generator=generator, dtype=torch.float64)
        noise = 0.3 * torch.randn(8, 3, 1, generator=generator, dtype=torch.float64)
        there = torch.ones(8, 3, dtype=torch.bool)
        equal.append(choose_penalty(MetaProblem(target.unsqueeze(1) + noise, there, target, False)))
    assert sorted(equal)[4] >= 100.0
    assert choose_penalty(score_problem(clips=1)) == 1000.0


def test_subsets_and_their_index_agree() -> None:
    rows = subsets(4)
    assert torch.equal(subset_index(rows), torch.arange(16))
    assert subset_index(torch.tensor([[True, False, True, False]])).item() == 1 + 4


@given(count=st.integers(2, 40), folds=st.integers(2, 8))
def test_folds_divide_the_clips(count: int, folds: int) -> None:
    pairs = fold_indices(count, folds)
    assert sorted(torch.cat([held for _, held in pairs]).tolist()) == list(range(count))
    for train, held in pairs:
        assert sorted([*train.tolist(), *held.tolist()]) == list(range(count))


def nearest(inputs: Tensor, target: Tensor) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """A base predictor that knows every clip by heart and nothing else: the target of the nearest one."""

    def fit_predict(train: Tensor, held: Tensor) -> dict[str, Tensor]:
        closest = torch.cdist(inputs[held], inputs[train]).argmin(dim=1)
        return {"memory": target[train][closest]}

    return fit_predict


def test_out_of_fold_predictions_unmask_a_predictor_that_memorises() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, target = (torch.randn(60, size, generator=generator, dtype=torch.float64) for size in (5, 1))
    everyone = torch.arange(60)
    in_sample = nearest(inputs, target)(everyone, everyone)["memory"]
    out = out_of_fold(60, nearest(inputs, target))["memory"]
    assert torch.equal(in_sample, target)
    assert (out != target).all()  # no clip was in the folds that predicted it
    honest = target + 0.5 * torch.randn(60, 1, generator=generator, dtype=torch.float64)

    def weight_of_memory(memory: Tensor) -> float:
        stacked = torch.stack([memory, honest], dim=1)
        there = torch.ones(60, 2, dtype=torch.bool)
        weights, _ = fit_subset(MetaProblem(stacked, there, target, False), there[0], 1.0)
        return weights[0].item()

    assert weight_of_memory(in_sample) > 0.9
    assert weight_of_memory(out) < 0.15


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="at least 2 folds of at least 2 clips, not 1 folds of 10"):
        fold_indices(10, 1)
    with pytest.raises(ValueError, match="asked for 2 clips and gave 1 for text"):
        out_of_fold(4, lambda _, __: {"text": torch.zeros(1, 1)}, folds=2)
