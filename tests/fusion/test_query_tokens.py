from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusion import testing
from fusion.attention import Attention
from fusion.query_tokens import QueryBlock, QueryTokenFusion
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 5, "vision": 4}


def test_equals_a_naive_querying_transformer(naive_attention: Callable[[Attention, Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    head = QueryTokenFusion(DIMS, 2, hidden_dim=8, queries=3, layers=2, heads=2).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [6, 2], "text": [3, 4], "vision": [2, 0]})
    with torch.no_grad():
        prediction = head(batch).prediction
        tokens = head.tokens({key: sequence.zeroed() for key, sequence in batch.items()})
        for row in range(2):
            read = torch.cat([tokens[key].values[row][tokens[key].mask[row]] for key in DIMS])
            states = head.queries
            for block in head.blocks:
                normed = block.self_norm(states)
                states = states + naive_attention(block.self_attention, normed, normed)
                states = states + naive_attention(
                    block.cross_attention, block.cross_norm(states), block.token_norm(read)
                )
                norm, first, _, _, second = block.feedforward
                states = states + second(nn.functional.gelu(first(norm(states))))
            expected = head.output(head.norm(states).mean(dim=0))
            torch.testing.assert_close(prediction[row], expected, atol=1e-5, rtol=1e-5)


def test_queries_talk_to_each_other() -> None:
    torch.manual_seed(0)
    block = QueryBlock(8, heads=2, dropout=0.0).eval()
    tokens = ModalitySequence(torch.randn(1, 4, 8), torch.ones(1, 4, dtype=torch.bool))
    queries = torch.randn(1, 3, 8)
    changed = queries.clone()
    changed[:, 2] = torch.randn(8)
    moved = (block(changed, tokens) - block(queries, tokens)).abs().amax(dim=-1)[0]
    assert (moved[:2] > 1e-4).all()


def test_order_of_modalities_and_queries_does_not_matter() -> None:
    """Keys are a bag, and the readout is a mean over queries."""
    torch.manual_seed(0)
    head = QueryTokenFusion(DIMS, 1, hidden_dim=8, queries=3).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [6], "text": [3], "vision": [2]})
    with torch.no_grad():
        before = head(batch).prediction
        head.queries.copy_(head.queries[[2, 0, 1]])
        head.tokens.encoders = nn.ModuleDict({key: head.tokens.encoders[key] for key in ("vision", "text", "audio")})
        torch.testing.assert_close(head(batch).prediction, before)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(QueryTokenFusion(dims, 1, hidden_dim=8), batch)


def test_needs_a_query() -> None:
    with pytest.raises(ValueError, match="queries is at least 1, not 0"):
        QueryTokenFusion(DIMS, 1, queries=0)


def test_learns_a_product_of_two_modalities(fit: Callable[..., float], product_task: object) -> None:
    torch.manual_seed(0)
    head = QueryTokenFusion({"audio": 2, "text": 2}, 1, hidden_dim=16, queries=4, dropout=0.0)
    assert fit(head, product_task) < 0.1
