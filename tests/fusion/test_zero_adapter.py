from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fusion import testing
from fusion.attention import TransformerLayer
from fusion.sequence import ModalitySequence
from fusion.zero_adapter import PromptedLayer, ZeroAdapterFusion

DIMS = {"audio": 3, "text": 5, "vision": 4}


def open_gates(head: ZeroAdapterFusion) -> ZeroAdapterFusion:
    for layer in head.layers:
        nn.init.constant_(layer.gate, 1.0)
    return head


def test_attention_equals_the_equations() -> None:
    """Scores on prompts and on the sequence, soft-maxed apart; `tanh(g)` of each head times the former."""
    torch.manual_seed(0)
    layer = PromptedLayer(8, heads=2, dropout=0.0, gated=True).eval()
    nn.init.constant_(layer.gate[:1], 0.4)
    nn.init.constant_(layer.gate[1:], -0.9)
    values, mask = torch.randn(1, 3, 8), torch.tensor([[True, True, False]])
    prompts = ModalitySequence(torch.randn(1, 4, 8), torch.tensor([[True, True, False, True]]))
    attention = layer.layer.attention
    with torch.no_grad():
        normed = layer.layer.norm(values[0])
        query = attention.query(normed)
        kinds = {
            "sequence": attention.key_value(normed[:2]).chunk(2, dim=1),
            "prompts": attention.key_value(prompts.values[0, [0, 1, 3]]).chunk(2, dim=1),
        }
        read = torch.zeros(3, 8)
        for step in range(3):
            for head, gate in enumerate((0.4, -0.9)):
                own = slice(4 * head, 4 * head + 4)
                for kind, (keys, vectors) in kinds.items():
                    powers = [math.exp(float(query[step, own] @ key[own]) / 2.0) for key in keys]  # sqrt(4)
                    factor = math.tanh(gate) if kind == "prompts" else 1.0
                    for power, vector in zip(powers, vectors, strict=True):
                        read[step, own] += factor * power / sum(powers) * vector[own]
        middle = values[0] + attention.output(read)
        expected = middle + layer.layer.feedforward(middle)
        torch.testing.assert_close(layer(values, mask, prompts)[0], expected, atol=1e-5, rtol=1e-5)


def test_at_the_start_a_layer_is_a_transformer_layer() -> None:
    torch.manual_seed(0)
    layer, plain = PromptedLayer(8, heads=2, dropout=0.0, gated=True), TransformerLayer(8, heads=2, dropout=0.0)
    plain.load_state_dict(layer.layer.state_dict())
    values, mask = torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True] * 3])
    prompts = ModalitySequence(torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool))
    torch.testing.assert_close(layer(values, mask, prompts), plain(values, mask))


def test_an_untrained_head_is_its_primary_only_transformer() -> None:
    torch.manual_seed(0)
    head = ZeroAdapterFusion(DIMS, 2, hidden_dim=8).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [5, 0], "text": [3, 4], "vision": [2, 6]})
    alone = ZeroAdapterFusion({"text": 5}, 2, hidden_dim=8).eval()
    alone.load_state_dict({key: value for key, value in head.state_dict().items() if key in alone.state_dict()})
    expected = alone({"text": batch["text"]}).prediction
    torch.testing.assert_close(head(batch).prediction, expected)
    assert (open_gates(head)(batch).prediction - expected).abs().max() > 1e-2


def test_prompts_carry_their_modality_and_layer() -> None:
    torch.manual_seed(0)
    head = ZeroAdapterFusion(DIMS, 1, hidden_dim=8, prompts=2, layers=3).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [5, 0], "text": [3, 4], "vision": [2, 6]})
    clean = {key: sequence.zeroed() for key, sequence in batch.items()}
    prompts = head._prompts(clean)
    assert len(prompts) == 3
    for level, sequence in enumerate(prompts):
        assert sequence.mask.tolist() == [[True] * 4, [False, False, True, True]]
        for row, key in enumerate(("audio", "vision")):
            for slot in range(2):
                expected = head.prompts[level, row, slot] + head.encoders[key](clean[key])
                torch.testing.assert_close(sequence.values[:, 2 * row + slot], expected)


def test_others_speak_where_the_primary_is_missing() -> None:
    torch.manual_seed(0)
    head = open_gates(ZeroAdapterFusion(DIMS, 1, hidden_dim=8)).eval()
    lengths = {"audio": [4], "text": [0], "vision": [3]}
    with torch.no_grad():
        first, second = (head(testing.ragged_batch(DIMS, lengths, seed=seed)).prediction for seed in (0, 1))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("primary", [None, "audio"])
def test_keeps_the_contract_with_open_gates(primary: str | None) -> None:
    """At the start the gates hide what is behind them."""
    torch.manual_seed(0)
    head = open_gates(ZeroAdapterFusion(DIMS, 1, hidden_dim=8, primary=primary))
    batch = testing.ragged_batch(DIMS, {"audio": [5, 2, 0], "text": [3, 0, 1], "vision": [2, 0, 4]})
    testing.check_padding_blind(head, batch)
    testing.check_missing_proof(head, batch)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(ZeroAdapterFusion(dims, 1, hidden_dim=8), batch)


def test_needs_a_prompt() -> None:
    with pytest.raises(ValueError, match="at least 1 prompt, not 0"):
        ZeroAdapterFusion(DIMS, 1, prompts=0)


def test_learns_a_product_of_two_modalities(fit: Callable[..., float], product_task: object) -> None:
    torch.manual_seed(0)
    head = ZeroAdapterFusion({"audio": 2, "text": 2}, 1, hidden_dim=16, dropout=0.0)
    assert fit(head, product_task) < 0.1
    assert all((layer.gate.abs() > 1e-2).all() for layer in head.layers)
