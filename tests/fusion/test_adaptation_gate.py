from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion import testing
from fusion.adaptation_gate import AdaptationGate, MultimodalAdaptationGate
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 5, "vision": 4}


def naive_shift(gate: AdaptationGate, state: Tensor, others: dict[str, Tensor]) -> Tensor:
    """`alpha h` of one step, from the equations of the paper; `others` are those that are there."""
    if not others:
        return torch.zeros_like(state)
    total = gate.bias.clone()
    for key, other in others.items():
        opened = (gate.gates[key].weight @ torch.cat([state, other]) + gate.gates[key].bias).clamp(min=0)
        total = total + opened * (gate.displacements[key].weight @ other)
    alpha = min(float(state.square().sum().sqrt() / total.square().sum().sqrt()) * gate.beta, 1.0)
    return alpha * total


@pytest.mark.parametrize("beta", [0.1, 1.0, 100.0])
def test_gate_equals_the_equations(beta: float) -> None:
    torch.manual_seed(0)
    gate = AdaptationGate(4, ["audio", "vision"], beta=beta)
    torch.nn.init.normal_(gate.bias)
    states = torch.randn(3, 2, 4)
    others = {key: torch.randn(3, 2, 4) for key in ("audio", "vision")}
    present = {"audio": torch.tensor([True, True, False]), "vision": torch.tensor([True, False, False])}
    with torch.no_grad():
        actual, out = gate.shift(states, others, present), gate(states, others, present)
        for row in range(3):
            for step in range(2):
                there = {key: others[key][row, step] for key in others if present[key][row]}
                expected = naive_shift(gate, states[row, step], there)
                torch.testing.assert_close(actual[row, step], expected)
                shifted = states[row, step] + expected
                centred = shifted - shifted.mean()
                normed = centred / (shifted.var(unbiased=False) + 1e-5).sqrt()
                torch.testing.assert_close(out[row, step], normed)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 999), st.floats(0.01, 5.0), st.floats(0.0, 1e4))
def test_shift_is_never_longer_than_beta_states(seed: int, beta: float, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    gate = AdaptationGate(4, ["audio"], beta=beta)
    states = torch.randn(2, 3, 4, generator=generator)
    others = {"audio": size * torch.randn(2, 3, 4, generator=generator)}
    shift = gate.shift(states, others, {"audio": torch.tensor([True, True])})
    assert (shift.norm(dim=-1) <= beta * states.norm(dim=-1) * (1 + 1e-5)).all()


def test_zero_states_and_shifts_have_finite_gradients() -> None:
    gate = AdaptationGate(4, ["audio"])
    states, other = (torch.zeros(1, 2, 4, requires_grad=True) for _ in range(2))
    gate.shift(states, {"audio": other}, {"audio": torch.tensor([True])}).sum().backward()
    for tensor in (states, other):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_each_word_meets_what_goes_on_during_it() -> None:
    """Four audio steps under two words: two steps each; [CLS] meets the mean of all."""
    audio = ModalitySequence.pad([torch.tensor([[1.0], [3.0], [5.0], [9.0]]), torch.tensor([[4.0]])])
    text = ModalitySequence.pad([torch.zeros(2, 1), torch.zeros(3, 1)])
    met = MultimodalAdaptationGate._on_primary(audio, text).squeeze(-1)
    torch.testing.assert_close(met, torch.tensor([[4.5, 2.0, 7.0, 0.0], [4.0, 4.0, 4.0, 4.0]]))


@pytest.mark.parametrize("encoder", ["gru", "none"])
def test_gaps_are_closed(encoder: str) -> None:
    torch.manual_seed(0)
    head = MultimodalAdaptationGate(DIMS, 1, hidden_dim=8, encoder=encoder).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [7], "text": [5], "vision": [6]})
    gappy = {
        key: ModalitySequence(s.values, torch.arange(s.mask.shape[1]).unsqueeze(0) % 3 != 1) for key, s in batch.items()
    }
    closed = {key: ModalitySequence(s.values[:, s.mask[0]], s.mask[:, s.mask[0]]) for key, s in gappy.items()}
    torch.testing.assert_close(head(gappy).prediction, head(closed).prediction)


def test_without_others_it_is_the_transformer_with_a_normalisation() -> None:
    torch.manual_seed(0)
    head = MultimodalAdaptationGate(DIMS, 1, hidden_dim=8).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [0], "text": [3], "vision": [0]})
    assert head.gate is not None
    tokens = head.tokens({"text": batch["text"].zeroed()})["text"].values
    values = torch.cat([head.cls.unsqueeze(0), tokens], dim=1)
    mask = torch.ones(1, 4, dtype=torch.bool)
    values = head.above[0](head.gate.norm(head.below[0](values, mask)), mask)
    torch.testing.assert_close(head(batch).prediction, head.output(head.norm(values[:, 0])))


def test_others_speak_where_the_primary_is_missing() -> None:
    torch.manual_seed(0)
    head = MultimodalAdaptationGate(DIMS, 1, hidden_dim=8).eval()
    lengths = {"audio": [4], "text": [0], "vision": [3]}
    with torch.no_grad():
        first, second = (head(testing.ragged_batch(DIMS, lengths, seed=seed)).prediction for seed in (0, 1))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(MultimodalAdaptationGate(dims, 1, hidden_dim=8), batch)


@pytest.mark.parametrize("primary", ["audio", "vision"])
def test_any_modality_can_be_primary(primary: str) -> None:
    torch.manual_seed(0)
    head = MultimodalAdaptationGate(DIMS, 1, hidden_dim=8, primary=primary)
    batch = testing.ragged_batch(DIMS, {"audio": [5, 2], "text": [3, 3], "vision": [2, 0]})
    testing.check_padding_blind(head, batch)
    testing.check_missing_proof(head, batch)
    assert primary not in head.encoders


def test_beta_must_be_positive() -> None:
    with pytest.raises(ValueError, match="beta must be positive, not 0"):
        MultimodalAdaptationGate(DIMS, 1, beta=0.0)


def test_learns_a_product_of_two_modalities(fit: Callable[..., float], product_task: object) -> None:
    torch.manual_seed(0)
    head = MultimodalAdaptationGate({"audio": 2, "text": 2}, 1, hidden_dim=16, dropout=0.0)
    assert fit(head, product_task) < 0.1
