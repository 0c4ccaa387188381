"""Low-rank fusion against the tensor that it never builds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fusion import LowRankFusion
from fusion.low_rank import LowRankProduct
from fusion.tensor import append_one, outer_product
from fusion.testing import ragged_batch, without

DIMS = {"audio": 2, "text": 3, "vision": 2}


def random_product(sizes: list[int], outputs: int, rank: int, seed: int = 0) -> LowRankProduct:
    torch.manual_seed(seed)
    layer = LowRankProduct(sizes, outputs, rank)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    outputs=st.integers(1, 3),
    rank=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_equals_the_explicit_contraction(sizes: list[int], outputs: int, rank: int, seed: int) -> None:
    """Build the weight tensor as the sum of outer products of the factors, and contract it entry by entry."""
    layer = random_product(sizes, outputs, rank, seed)
    vectors = [torch.randn(2, size) for size in sizes]
    expected = layer.bias.detach().repeat(2, 1)
    for column in range(outputs):
        weight = torch.zeros(sizes)
        for term in range(rank):
            part = torch.ones(())
            for factor in layer.factors:
                part = part.unsqueeze(-1) * factor[term, :, column].detach()
            weight = weight + part
        for row in range(2):
            tensor = torch.ones(())
            for vector in vectors:
                tensor = tensor.unsqueeze(-1) * vector[row]
            expected[row, column] += (weight * tensor).sum()
    torch.testing.assert_close(layer(vectors), expected, atol=1e-4, rtol=1e-4)


def test_at_full_rank_it_is_any_linear_map_of_the_tensor() -> None:
    """Every tensor is a sum of d_1 * d_2 products `e_i x e_j x W[i, j, :]`: with those as factors, low-rank fusion
    is tensor fusion's first linear layer."""
    torch.manual_seed(1)
    first, second, third, outputs = 3, 4, 2, 5
    linear = nn.Linear(first * second * third, outputs)
    weight = linear.weight.detach().view(outputs, first, second, third)
    layer = LowRankProduct([first, second, third], outputs, rank=first * second)
    factors = [torch.zeros(first * second, size, outputs) for size in (first, second, third)]
    for i in range(first):
        for j in range(second):
            term = i * second + j
            factors[0][term, i] = 1.0
            factors[1][term, j] = 1.0
            factors[2][term] = weight[:, i, j].T
    for parameter, factor in zip(layer.factors, factors, strict=True):
        parameter.data = factor
    layer.bias.data = linear.bias.detach()
    vectors = [append_one(torch.randn(6, size - 1)) for size in (first, second, third)]
    torch.testing.assert_close(layer(vectors), linear(outer_product(vectors)))


def test_missing_modality_multiplies_by_the_row_of_its_one() -> None:
    torch.manual_seed(0)
    head = LowRankFusion(DIMS, 1, hidden_dim=4, rank=3).eval()
    for parameter in head.product.parameters():
        nn.init.normal_(parameter)
    batch = ragged_batch(DIMS, {key: [3] for key in DIMS})
    complete, blind = head(batch).representations, head(without(batch, ["vision"])).representations
    expected = head.product.bias.detach().clone()
    for term in range(3):
        audio, text, vision = (factor[term] for factor in head.product.factors)
        heard = torch.cat([complete["audio"][0], torch.ones(1)]) @ audio
        read = torch.cat([complete["text"][0], torch.ones(1)]) @ text
        expected = expected + heard * read * vision[-1]
    torch.testing.assert_close(blind["fusion"][0], expected)


def test_factors_are_trained_all_of_them() -> None:
    """In a widely used implementation the factors sit in a plain list, out of the optimiser's reach."""
    torch.manual_seed(0)
    head = LowRankFusion(DIMS, 1, hidden_dim=4, rank=3, dropout=0.0)
    names = {id(parameter) for parameter in head.parameters()}
    assert len(head.product.factors) == 3
    assert all(id(factor) in names for factor in head.product.factors)
    head(ragged_batch(DIMS, {key: [3, 2] for key in DIMS})).prediction.sum().backward()
    for factor in head.product.factors:
        assert factor.shape == (3, 5, 4)
        assert (factor.grad != 0).all()


def test_starts_as_a_sum_over_modalities() -> None:
    """For small vectors the starting value is the sum of the modalities' linear maps, to first order."""
    torch.manual_seed(0)
    layer = LowRankProduct([4, 5], 3, rank=2)
    small = [1e-3 * torch.randn(2, 3), 1e-3 * torch.randn(2, 4)]
    first_order = sum(
        torch.einsum("bd,rdo->bo", vector, factor[:, :-1]) for vector, factor in zip(small, layer.factors, strict=True)
    )
    torch.testing.assert_close(layer([append_one(v) for v in small]), first_order, atol=3e-5, rtol=0)
    assert first_order.abs().max() > 3e-4


def test_wrong_rank() -> None:
    with pytest.raises(ValueError, match="rank must be at least 1, not 0"):
        LowRankFusion(DIMS, 1, rank=0)
