from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusion import testing
from fusion.attention import Attention
from fusion.modality_experts import ExpertLayer, ModalityExpertsFusion

DIMS = {"audio": 3, "text": 5, "vision": 4}
Attend = Callable[[Attention, Tensor, Tensor], Tensor]


def naive_block(block: nn.Sequential, values: Tensor) -> Tensor:
    norm, first, _, _, second = block
    return second(nn.functional.gelu(first(norm(values))))


def test_equals_a_naive_multiway_transformer(naive_attention: Attend) -> None:
    torch.manual_seed(0)
    head = ModalityExpertsFusion(DIMS, 2, hidden_dim=8, expert_layers=2, fusion_layers=1, heads=2).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [6, 2, 3], "text": [3, 4, 0], "vision": [2, 0, 0]})
    with torch.no_grad():
        output = head(batch)
        tokens = head.tokens({key: sequence.zeroed() for key, sequence in batch.items()})
        for row in range(3):
            owners = [key for key in DIMS for _ in range(int(batch[key].lengths[row]))]
            values = torch.cat([tokens[key].values[row][tokens[key].mask[row]] for key in DIMS])
            for layer in head.experts:
                normed = layer.norm(values)
                values = values + naive_attention(layer.attention, normed, normed)
                told = [naive_block(layer.experts[key], token) for key, token in zip(owners, values, strict=True)]
                values = values + torch.stack(told)
            for layer in head.fusion:
                normed = layer.norm(values)
                values = values + naive_attention(layer.attention, normed, normed)
                values = values + naive_block(layer.feedforward, values)
            values = head.norm(values)
            mass = torch.stack([head.pool.score(token) for token in values]).exp().squeeze(1)
            shares = mass / mass.sum()
            expected = head.output((shares.unsqueeze(1) * values).sum(dim=0))
            torch.testing.assert_close(output.prediction[row], expected, atol=1e-5, rtol=1e-5)
            for key in DIMS:
                share = sum(float(s) for s, owner in zip(shares, owners, strict=True) if owner == key)
                assert float(output.weights[key][row]) == pytest.approx(share, abs=1e-5)


def test_tokens_pass_through_their_own_expert() -> None:
    """Switching one expert off changes its modality's tokens and no others."""
    torch.manual_seed(0)
    layer = ExpertLayer(8, ["a", "b", "c"], heads=2, dropout=0.0)
    values, mask, sizes = torch.randn(2, 7, 8), torch.ones(2, 7, dtype=torch.bool), [3, 1, 3]
    with torch.no_grad():
        before = layer(values, mask, sizes)
        for parameter in layer.experts["b"].parameters():
            parameter.zero_()
        after = layer(values, mask, sizes)
    changed = (after != before).any(dim=-1)
    assert changed.tolist() == [[False, False, False, True, False, False, False]] * 2


def test_without_experts_there_are_none() -> None:
    with pytest.raises(ValueError, match="expert_layers is 0"):
        ModalityExpertsFusion(DIMS, 1, expert_layers=0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(ModalityExpertsFusion(dims, 1, hidden_dim=8), batch)


def test_learns_a_product_of_two_modalities(fit: Callable[..., float], product_task: object) -> None:
    torch.manual_seed(0)
    head = ModalityExpertsFusion({"audio": 2, "text": 2}, 1, hidden_dim=16, dropout=0.0)
    assert fit(head, product_task) < 0.1
