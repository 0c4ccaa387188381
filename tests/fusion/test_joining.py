from __future__ import annotations

import torch
from torch import nn

from fusion.joining import concatenate_present


def test_a_linear_map_sees_the_rescaled_sum_of_the_parts_present() -> None:
    torch.manual_seed(0)
    vectors, present = torch.randn(3, 4, 2), torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]).bool()
    vectors[0, 1] = float("nan")
    linear = nn.Linear(8, 5)
    actual = linear(concatenate_present(vectors, present))
    for row in range(3):
        expected = linear.bias.clone()
        parts = [part for part in range(4) if present[row, part]]
        for part in parts:
            expected += 4 / len(parts) * linear.weight[:, 2 * part : 2 * part + 2] @ vectors[row, part]
        torch.testing.assert_close(actual[row], expected)


def test_plain_concatenation_when_all_are_there_and_zeros_when_none_is() -> None:
    vectors = torch.arange(12.0).view(2, 3, 2)
    assert torch.equal(concatenate_present(vectors, torch.ones(2, 3).bool()), vectors.view(2, 6))
    assert (concatenate_present(vectors, torch.zeros(2, 3).bool()) == 0).all()
