"""Tucker fusion against the explicit core tensor, and the bound on its rank."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fusion import TuckerFusion
from fusion.testing import ragged_batch

THREE = {"audio": 2, "text": 3, "vision": 2}


def random_head(dims: dict[str, int], hidden_dim: int, rank: int) -> TuckerFusion:
    torch.manual_seed(0)
    head = TuckerFusion(dims, 2, hidden_dim=hidden_dim, rank=rank).eval()
    for core in head.core.values():
        nn.init.normal_(core.weight)
        nn.init.normal_(core.bias)
    return head


def core_factor(head: TuckerFusion, key: str) -> Tensor:
    """`(R, H + 1, H)`: the maps `M_m^r`, their bias as the row of an appended 1."""
    core = head.core[key]
    size = head.output.in_features
    weight = core.weight.view(head.rank, size, size).transpose(1, 2)
    return torch.cat([weight, core.bias.view(head.rank, 1, size)], dim=1).detach()


def test_equals_the_contraction_with_the_explicit_core() -> None:
    head = random_head(THREE, hidden_dim=4, rank=3)
    batch = ragged_batch(THREE, {key: [3, 5] for key in THREE})
    output = head(batch)
    factors = [core_factor(head, key) for key in head.modalities]
    core = torch.einsum("rio,rjo,rko->ijko", *factors)
    projected = [
        torch.cat([torch.tanh(head.project[key](output.representations[key])), torch.ones(2, 1)], dim=1)
        for key in head.modalities
    ]
    expected = torch.einsum("bi,bj,bk,ijko->bo", *projected, core)
    torch.testing.assert_close(output.representations["fusion"], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.prediction, head.output(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_core_slices_have_the_bounded_rank(rank: int) -> None:
    """Read the bilinear core out of the head by probing it with basis vectors; its slices have rank R, no more."""
    head = random_head({"image": 2, "question": 3}, hidden_dim=5, rank=rank)
    basis = torch.cat([torch.eye(5), torch.zeros(1, 5)])

    def probe(i: int, j: int) -> Tensor:
        pair = {"image": basis[i : i + 1], "question": basis[j : j + 1]}
        return head.contract(pair, torch.ones(1, 2, dtype=torch.bool))[0].detach()

    core = torch.stack(
        [torch.stack([probe(i, j) - probe(i, 5) - probe(5, j) + probe(5, 5) for j in range(5)]) for i in range(5)]
    )  # (5, 5, H): what is left of the probes without the terms of lower order
    for column in range(5):
        assert torch.linalg.matrix_rank(core[..., column], atol=1e-4) == rank


def test_missing_modality_drops_out_of_the_product() -> None:
    head = random_head(THREE, hidden_dim=4, rank=3)
    projected = {key: torch.randn(1, 4) for key in head.modalities}
    found = head.contract(projected, torch.tensor([[True, True, False]]))
    audio, text = (
        torch.cat([projected[key], torch.ones(1, 1)], dim=1) @ core_factor(head, key) for key in ("audio", "text")
    )
    torch.testing.assert_close(found, (audio * text).sum(dim=0))
    nothing = head.contract(projected, torch.tensor([[False, False, False]]))
    torch.testing.assert_close(nothing, torch.full((1, 4), 3.0))  # a sum of three empty products


def test_core_grows_with_the_modalities_and_not_with_their_power() -> None:
    sizes = [
        sum(p.numel() for p in TuckerFusion(dict.fromkeys("abcdef"[:count], 2), 1, hidden_dim=8).core.parameters())
        for count in (1, 2, 4)
    ]
    assert sizes[1] == 2 * sizes[0]
    assert sizes[2] == 4 * sizes[0]


def test_the_start_has_no_offset() -> None:
    """With all inputs at zero the product of ones is the rank; the output's bias takes it back."""
    torch.manual_seed(0)
    head = TuckerFusion(THREE, 2, hidden_dim=8, rank=3).eval()
    zero = head.contract({key: torch.zeros(1, 8) for key in head.modalities}, torch.ones(1, 3, dtype=torch.bool))
    assert head.output(zero).abs().max() < 8**-0.5 + 1e-5  # the range that a linear layer's bias is drawn from


def test_wrong_rank() -> None:
    with pytest.raises(ValueError, match="rank must be at least 1, not -1"):
        TuckerFusion(THREE, 1, rank=-1)
