"""Hierarchical fusion against its levels, computed clip by clip."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from fusion import HierarchicalFusion
from fusion.hierarchical import ElementwiseFusion
from fusion.testing import ragged_batch, without

DIMS = {"audio": 2, "ecg": 2, "text": 3, "vision": 2}


def small_head(names: tuple[str, ...]) -> HierarchicalFusion:
    torch.manual_seed(0)
    dims = {key: DIMS[key] for key in names}
    head = HierarchicalFusion(dims, 2, hidden_dim=4, encoder="none", pooling="mean").eval()
    if head.level_logits is not None:
        head.level_logits.data = torch.tensor([0.5, -0.3, 1.1][: head.levels])
    for fusion in (*head.pair_fusion, head.all_fusion):
        if isinstance(fusion, ElementwiseFusion):
            fusion.bias.data.uniform_(-0.5, 0.5)
    return head


def prediction_by_levels(head: HierarchicalFusion, vectors: dict[str, Tensor]) -> Tensor:
    """The docstring's three formulas for one clip; `vectors` are the `u_m (H,)` of the modalities it has."""
    names = list(head.modalities)
    levels = [torch.stack([head.unimodal_output[names.index(key)](u) for key, u in vectors.items()]).mean(dim=0)]
    fused, terms = [], []
    for number, (first, second) in enumerate(combinations(names, 2)):
        if first in vectors and second in vectors:
            layer = head.pair_fusion[number]
            w_first, w_second = layer.weight
            f = torch.tanh(w_first * vectors[first] + w_second * vectors[second] + layer.bias)
            fused.append(head.pair_output[number](f))
            if head.all_fusion is not None:
                terms.append(head.all_fusion.weight[number] * f)
    if fused:
        levels.append(torch.stack(fused).mean(dim=0))
    if len(vectors) > 2:
        every = len(names) * (len(names) - 1) / 2
        z = torch.tanh(sum(terms) * (every / len(terms)) + head.all_fusion.bias)
        levels.append(head.all_output(z))
    strength = torch.softmax(torch.tensor([0.5, -0.3, 1.1][: len(levels)]), dim=0)
    return sum(weight * level for weight, level in zip(strength, levels, strict=True))


@pytest.mark.parametrize("names", [("audio", "text"), ("audio", "text", "vision"), tuple(DIMS)])
def test_every_subset_against_the_levels(names: tuple[str, ...]) -> None:
    head = small_head(names)
    batch = ragged_batch(head.input_dims, {key: [3, 1] for key in names})
    complete = head(batch).representations
    for count in range(1, len(names) + 1):
        for subset in combinations(names, count):
            output = head(without(batch, [key for key in names if key not in subset]))
            for row in range(2):
                expected = prediction_by_levels(head, {key: complete[key][row] for key in subset})
                torch.testing.assert_close(output.prediction[row], expected, atol=1e-5, rtol=1e-5)


def test_one_modality_left_is_that_modality_alone() -> None:
    head = small_head(("audio", "text", "vision"))
    batch = ragged_batch(head.input_dims, {key: [4] for key in head.modalities})
    output = head(without(batch, ["audio", "vision"]))
    torch.testing.assert_close(output.prediction, output.unimodal["text"])
    torch.testing.assert_close(output.representations["fusion"], output.representations["text"])


def test_elementwise_fusion_by_hand() -> None:
    layer = ElementwiseFusion(2, 2)
    layer.weight.data = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    layer.bias.data = torch.tensor([0.5, 0.0])
    members = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]])
    # Inside the tanh, feature by feature: 0.1 * 1 + 0.3 * 3 + 0.5 is 1.5, and 0.2 * 2 - 0.4 * 1 is 0.
    both = layer(members, torch.tensor([[True, True]]))
    torch.testing.assert_close(both, torch.tensor([[1.5, 0.0]]).tanh())
    # One of two: its term counts twice.
    first = layer(members, torch.tensor([[True, False]]))
    torch.testing.assert_close(first, torch.tensor([[2 * 0.1 + 0.5, 2 * 0.4]]).tanh())


def test_features_do_not_mix_within_a_fusion() -> None:
    """Elementwise, as in the source: output feature k depends on feature k of the members only."""
    torch.manual_seed(0)
    layer = ElementwiseFusion(3, 5)
    jacobian = torch.autograd.functional.jacobian(
        lambda members: layer(members, torch.ones(1, 3, dtype=torch.bool))[0], torch.randn(1, 3, 5)
    )[:, 0]  # (5, 3, 5)
    off_diagonal = jacobian.masked_fill(torch.eye(5, dtype=torch.bool).unsqueeze(1), 0.0)
    assert (off_diagonal == 0).all()
    assert (jacobian.diagonal(dim1=0, dim2=2) != 0).all()


def test_one_modality_has_one_level() -> None:
    head = HierarchicalFusion({"text": 3}, 1)
    assert not [name for name, _ in head.named_parameters() if name.startswith(("pair", "all", "level"))]
