"""References and a tiny problem that the tests of several heads share."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusion.attention import Attention
from fusion.head import FusionHead
from fusion.sequence import ModalitySequence


@pytest.fixture
def naive_attention() -> Callable[[Attention, Tensor, Tensor], Tensor]:
    """Multi-head attention of `(Q, H)` over `(K, D)` of one clip without padding, head by head, query by query."""

    def attend(module: Attention, query: Tensor, key: Tensor) -> Tensor:
        width = query.shape[1] // module.heads
        w_key, w_value = module.key_value.weight.detach().chunk(2)
        b_key, b_value = module.key_value.bias.detach().chunk(2)
        w_query, b_query = module.query.weight.detach(), module.query.bias.detach()
        rows = []
        for step in query.detach():
            parts = []
            for head in range(module.heads):
                own = slice(head * width, (head + 1) * width)
                q = w_query[own] @ step + b_query[own]
                k = [w_key[own] @ other + b_key[own] for other in key.detach()]
                v = [w_value[own] @ other + b_value[own] for other in key.detach()]
                powers = [math.exp(float(q @ one) / math.sqrt(width)) for one in k]
                parts.append(sum(p / sum(powers) * one for p, one in zip(powers, v, strict=True)))
            rows.append(module.output.weight.detach() @ torch.cat(parts) + module.output.bias.detach())
        return torch.stack(rows)

    return attend


@pytest.fixture
def product_task() -> tuple[dict[str, ModalitySequence], Tensor]:
    """32 clips whose label is the product of a sign in the audio and a sign in the text.

    Each sign alone, and every sum of functions of one sign each, leaves a mean squared error of 1.
    """
    generator = torch.Generator().manual_seed(0)
    signs = torch.tensor([[a, t] for a in (-1.0, 1.0) for t in (-1.0, 1.0)]).repeat(8, 1)
    audio = 0.1 * torch.randn(32, 6, 2, generator=generator)
    text = 0.1 * torch.randn(32, 3, 2, generator=generator)
    audio[:, 4, 0] += signs[:, 0]
    text[:, 0, 0] += signs[:, 1]
    batch = {
        key: ModalitySequence(values, torch.ones(values.shape[:2], dtype=torch.bool))
        for key, values in (("audio", audio), ("text", text))
    }
    return batch, (signs[:, 0] * signs[:, 1]).unsqueeze(-1)


@pytest.fixture
def fit() -> Callable[..., float]:
    """Train a head until its mean squared error is below `goal` or steps run out; return its error after that."""

    def run(
        head: FusionHead,
        task: tuple[dict[str, ModalitySequence], Tensor],
        *,
        steps: int = 400,
        rate: float = 5e-3,
        goal: float = 0.02,
    ) -> float:
        batch, target = task
        optimiser = torch.optim.Adam(head.parameters(), lr=rate)
        head.train()
        for _ in range(steps):
            optimiser.zero_grad()
            loss = (head(batch).prediction - target).square().mean()
            if loss < goal:
                break
            loss.backward()
            optimiser.step()
        head.eval()
        with torch.no_grad():
            return float((head(batch).prediction - target).square().mean())

    return run
