"""Tensor fusion against explicit loops over the entries of the tensor."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion import TensorFusion
from fusion.tensor import append_one, default_tensor_dim, outer_product
from fusion.testing import ragged_batch, without


@settings(max_examples=25, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_outer_product_entry_by_entry(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(2, size, generator=generator) for size in sizes]
    tensor = outer_product(vectors).view(2, *sizes)
    for entry in product(*(range(size) for size in sizes)):
        for row in range(2):
            expected = 1.0
            for vector, index in zip(vectors, entry, strict=True):
                expected *= vector[row, index].item()
            assert tensor[row][entry].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_ones_carry_every_lower_order() -> None:
    """With a 1 behind each vector, the tensor holds the vectors themselves, all products of two, and the constant."""
    audio, text, vision = (torch.randn(1, size) for size in (2, 3, 2))
    tensor = outer_product([append_one(v) for v in (audio, text, vision)]).view(3, 4, 3)
    torch.testing.assert_close(tensor[:2, -1, -1], audio[0])
    torch.testing.assert_close(tensor[-1, :3, -1], text[0])
    torch.testing.assert_close(tensor[:2, :3, -1], torch.einsum("i,j->ij", audio[0], text[0]))
    torch.testing.assert_close(tensor[:2, :3, :2], torch.einsum("i,j,k->ijk", audio[0], text[0], vision[0]))
    assert tensor[-1, -1, -1] == 1


def test_missing_modality_leaves_the_tensor_of_the_others() -> None:
    torch.manual_seed(0)
    dims = {"audio": 2, "text": 3, "vision": 2}
    head = TensorFusion(dims, 1, hidden_dim=6, tensor_dim=3).eval()
    seen: list[torch.Tensor] = []
    head.inference.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    batch = ragged_batch(dims, {key: [4] for key in dims})
    output = head(without(batch, ["text"]))
    tensor = seen[0].view(4, 4, 4)  # audio, text, vision
    vectors = output.representations
    others = torch.einsum("i,j->ij", append_one(vectors["audio"])[0], append_one(vectors["vision"])[0])
    torch.testing.assert_close(tensor[:, -1, :], others)
    assert (tensor[:, :-1, :] == 0).all()
    assert (vectors["audio"] > 0).any()


@pytest.mark.parametrize("modalities", range(1, 9))
def test_default_size_is_the_largest_that_fits(modalities: int) -> None:
    size = default_tensor_dim(modalities, 64)
    assert (size + 1) ** modalities <= 5000
    assert size == 64 or (size + 2) ** modalities > 5000


def test_too_large_a_tensor_is_refused_and_the_advice_works() -> None:
    dims = {f"m{number}": 2 for number in range(8)}
    with pytest.raises(
        ValueError, match=r"8 modalities of tensor_dim 9 make a tensor of 100000000 entries.*lower tensor_dim"
    ):
        TensorFusion(dims, 1, tensor_dim=9)
    assert TensorFusion(dims, 1, tensor_dim=2).inference[1].in_features == 3**8
    with pytest.raises(ValueError, match="tensor_dim must be at least 1, not 0"):
        TensorFusion(dims, 1, tensor_dim=0)
