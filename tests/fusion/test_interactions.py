"""Which heads can learn what no sum over modalities can: the product of a sign in each of two modalities."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusion import ModalitySequence, head_class

Task = tuple[dict[str, ModalitySequence], Tensor]
INTERACTING = ["early", "hierarchical", "lf_dnn", "lmf", "single_stream", "tfn", "tucker"]


@pytest.fixture
def exact_task(product_task: Task) -> Task:
    """The product task without its noise, from which a sum over modalities would learn the clips by heart."""
    batch, target = product_task
    return {key: ModalitySequence(s.values.round(), s.mask) for key, s in batch.items()}, target


def error_of(name: str, fit: Callable[..., float], task: Task) -> float:
    torch.manual_seed(0)
    dims = {key: sequence.values.shape[2] for key, sequence in task[0].items()}
    options = {"grid_steps": 6} if name == "early" else {}
    head = head_class(name)(input_dims=dims, output_dim=1, dropout=0.0, **options)
    return fit(head, task, steps=200, rate=2e-3)


@pytest.mark.parametrize("name", INTERACTING)
def test_learns_a_product_of_modalities(name: str, fit: Callable[..., float], exact_task: Task) -> None:
    assert error_of(name, fit, exact_task) < 0.1


def test_a_sum_over_modalities_does_not(fit: Callable[..., float], exact_task: Task) -> None:
    """Over the four corners `(+-1, +-1)` the product is orthogonal to `f(a) + g(t)`: the best error is 1."""
    assert error_of("late", fit, exact_task) > 0.99
