from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.readout import ModalityPooling, present_mean, present_sum, stack_vectors

NAMES = ("a", "b", "c")


def test_pooling_is_a_softmax_over_what_is_there() -> None:
    torch.manual_seed(0)
    module = ModalityPooling(4, NAMES)
    assert module.pool is not None
    vectors = {key: torch.randn(3, 4) for key in NAMES}
    present = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    pooled, weights = module(vectors, present)
    for row in range(3):
        there = [key for key, here in zip(NAMES, present[row], strict=True) if here]
        powers = {key: math.exp(float(module.pool.score(vectors[key][row]).detach())) for key in there}
        expected = sum(powers[key] / sum(powers.values()) * vectors[key][row] for key in there)
        torch.testing.assert_close(pooled[row], expected)
        for key in NAMES:
            share = powers[key] / sum(powers.values()) if key in there else 0.0
            torch.testing.assert_close(weights[key][row], torch.tensor(share))


def test_pooling_of_one_modality_is_that_modality() -> None:
    module = ModalityPooling(4, ["only"])
    assert not list(module.parameters())
    vector = torch.randn(2, 4)
    pooled, weights = module({"only": vector}, torch.tensor([[True], [False]]))
    assert torch.equal(pooled[0], vector[0])
    assert (pooled[1] == 0).all()
    assert weights["only"].tolist() == [1.0, 0.0]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=4))
def test_mean_and_sum_run_over_what_is_there(rows: list[list[bool]]) -> None:
    present = torch.tensor(rows)
    vectors = [torch.randn(len(rows), 2) for _ in NAMES]
    mean, total = present_mean(vectors, present), present_sum(vectors, present)
    for row, here in enumerate(rows):
        there = [vector[row] for vector, is_there in zip(vectors, here, strict=True) if is_there]
        expected = sum(there) / len(there) if there else torch.zeros(2)
        torch.testing.assert_close(mean[row], expected)
        torch.testing.assert_close(total[row], 3 * expected)


def test_mean_of_blocks_of_tokens() -> None:
    blocks = [torch.full((1, 2, 2), value) for value in (1.0, 5.0, 100.0)]
    assert (present_mean(blocks, torch.tensor([[True, True, False]])) == 3.0).all()


def test_stacked_vectors_hide_missing_modalities() -> None:
    stacked = stack_vectors([torch.ones(1, 2), torch.full((1, 2), float("nan"))], torch.tensor([[True, False]]))
    assert stacked.values.tolist() == [[[1.0, 1.0], [0.0, 0.0]]]
