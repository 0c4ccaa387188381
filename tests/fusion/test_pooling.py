from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion.pooling import (
    AttentionPooling,
    LastState,
    MeanPooling,
    StatisticsPooling,
    masked_mean,
    masked_softmax,
    masked_statistics,
)
from fusion.sequence import ModalitySequence

POOLINGS = [MeanPooling, LastState, AttentionPooling, StatisticsPooling]


@st.composite
def gappy(draw: st.DrawFn) -> ModalitySequence:
    """Up to four clips with gaps anywhere, some without a real step; zeros where masked."""
    clips, steps = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    bits = draw(st.lists(st.booleans(), min_size=clips * steps, max_size=clips * steps))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    mask = torch.tensor(bits).view(clips, steps)
    return ModalitySequence(torch.randn(clips, steps, 3, generator=generator), mask).zeroed()


def rows(sequence: ModalitySequence) -> list[Tensor]:
    return [values[mask] for values, mask in zip(sequence.values, sequence.mask, strict=True)]


@settings(deadline=None, derandomize=True)
@given(gappy())
def test_mean_and_last(sequence: ModalitySequence) -> None:
    mean, last = MeanPooling(3)(sequence), LastState(3)(sequence)
    for row, real in enumerate(rows(sequence)):
        torch.testing.assert_close(mean[row], sum(real) / len(real) if len(real) else torch.zeros(3))
        assert torch.equal(last[row], real[-1] if len(real) else torch.zeros(3))


@settings(deadline=None, derandomize=True)
@given(gappy())
def test_attention_weighs_by_its_scorer(sequence: ModalitySequence) -> None:
    torch.manual_seed(0)
    module = AttentionPooling(3)
    first, _, second = module.score
    pooled, weights = module(sequence), module.weights(sequence)
    for row, real in enumerate(rows(sequence)):
        scores = [float((second.weight[0] @ torch.tanh(first.weight @ step + first.bias)).detach()) for step in real]
        powers = [math.exp(score) for score in scores]
        shares = torch.tensor([power / sum(powers) for power in powers])
        torch.testing.assert_close(weights[row][sequence.mask[row]], shares)
        assert (weights[row][~sequence.mask[row]] == 0).all()
        expected = sum((s * v for s, v in zip(shares, real, strict=True)), start=torch.zeros(3))
        torch.testing.assert_close(pooled[row], expected)


@settings(deadline=None, derandomize=True)
@given(gappy())
def test_statistics_are_the_populations(sequence: ModalitySequence) -> None:
    mean, deviation = masked_statistics(sequence)
    torch.manual_seed(0)
    module = StatisticsPooling(3)
    pooled = module(sequence)
    for row, real in enumerate(rows(sequence)):
        if not len(real):
            assert (pooled[row] == 0).all()
            continue
        centre = sum(real) / len(real)
        spread = (sum((step - centre) ** 2 for step in real) / len(real)).sqrt()
        torch.testing.assert_close(mean[row], centre)
        torch.testing.assert_close(deviation[row], spread, atol=2e-6, rtol=1e-5)
        expected = module.project.weight @ torch.cat([centre, spread]) + module.project.bias
        torch.testing.assert_close(pooled[row], expected, atol=1e-5, rtol=1e-5)


def test_one_step_has_no_deviation_and_a_finite_gradient() -> None:
    values = torch.randn(1, 1, 3, requires_grad=True)
    deviation = masked_statistics(ModalitySequence(values, torch.tensor([[True]])))[1]
    assert deviation.abs().max() < 1e-6
    deviation.sum().backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("kind", POOLINGS)
def test_masked_steps_have_no_influence_and_no_gradient(kind: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    module = kind(3)
    mask = torch.tensor([[True, False, True, False], [False] * 4])
    first = torch.randn(2, 4, 3, requires_grad=True)
    second = torch.where(mask.unsqueeze(-1), first, 1e4)
    pooled = module(ModalitySequence(first, mask))
    torch.testing.assert_close(pooled, module(ModalitySequence(second, mask)))
    assert (pooled[1] == 0).all()
    pooled.square().sum().backward()
    assert first.grad is not None
    assert (first.grad[~mask] == 0).all()
    assert (first.grad[0, 2] != 0).any()


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=1, max_size=6), st.floats(-100, 100))
def test_softmax_sums_to_one_and_ignores_a_shift(pairs: list[tuple[float, bool]], shift: float) -> None:
    scores = torch.tensor([score for score, _ in pairs], dtype=torch.float64)
    mask = torch.tensor([real for _, real in pairs])
    weights = masked_softmax(scores, mask)
    assert float(weights.sum()) == pytest.approx(1.0 if mask.any() else 0.0)
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(masked_softmax(scores + shift, mask), weights)
    if mask.any():
        torch.testing.assert_close(weights[mask], torch.softmax(scores[mask], dim=0))


def test_softmax_over_nothing_has_no_gradient() -> None:
    scores = torch.randn(1, 3, requires_grad=True)
    masked_softmax(scores, torch.zeros(1, 3, dtype=torch.bool)).sum().backward()
    assert scores.grad is not None
    assert (scores.grad == 0).all()


def test_mean_by_hand() -> None:
    values = torch.tensor([[[1.0], [100.0], [3.0]]])
    assert masked_mean(ModalitySequence(values, torch.tensor([[True, False, True]]))).item() == 2.0
