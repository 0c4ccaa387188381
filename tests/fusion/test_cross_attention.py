from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusion import testing
from fusion.attention import Attention
from fusion.cross_attention import CrossAttentionFusion
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 5, "vision": 4}


def naive_view(
    attend: Callable[[Attention, Tensor, Tensor], Tensor], head: CrossAttentionFusion, key: str, clip: dict[str, Tensor]
) -> Tensor:
    """One modality of one clip: its tokens read all the others' in one softmax, then are pooled; `(H,)`."""
    layer, own = head.layers[key], clip[key]
    others = [tokens for name, tokens in clip.items() if name != key]
    if others:
        own = own + attend(layer.attention, layer.norm(own), layer.context_norm(torch.cat(others)))
    norm, first, _, _, second = layer.feedforward
    own = own + second(nn.functional.gelu(first(norm(own))))
    scores = torch.stack([head.pools[key].score(step) for step in own]).exp()
    return head.norms[key]((scores / scores.sum() * own).sum(dim=0))


def test_equals_a_naive_cross_attention(naive_attention: Callable[[Attention, Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    head = CrossAttentionFusion(DIMS, 2, hidden_dim=8, heads=2).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [6, 2, 3], "text": [3, 4, 0], "vision": [2, 0, 0]})
    with torch.no_grad():
        output = head(batch)
        tokens = head.tokens({key: sequence.zeroed() for key, sequence in batch.items()})
        for row in range(3):
            clip = {k: s.values[row][s.mask[row]] for k, s in tokens.items() if s.mask[row].any()}
            views = {key: naive_view(naive_attention, head, key, clip) for key in clip}
            assert head.readout.pool is not None
            mass = {key: head.readout.pool.score(view).exp() for key, view in views.items()}
            fused = sum(mass[key] / sum(mass.values()) * views[key] for key in clip)
            torch.testing.assert_close(output.prediction[row], head.output(fused), atol=1e-5, rtol=1e-5)
            for key in clip:
                share = float(mass[key] / sum(mass.values()))
                assert float(output.weights[key][row]) == pytest.approx(share, abs=1e-5)


def test_every_view_reads_every_other_modality() -> None:
    torch.manual_seed(0)
    head = CrossAttentionFusion(DIMS, 1, hidden_dim=8).eval()
    batch = testing.ragged_batch(DIMS, {key: [4] for key in DIMS})
    with torch.no_grad():
        before = head(batch).representations
        for source in DIMS:
            changed = ModalitySequence(-2 * batch[source].values, batch[source].mask)
            after = head({**batch, source: changed}).representations
            for target in DIMS:
                assert (after[target] - before[target]).abs().max() > 1e-4


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(CrossAttentionFusion(dims, 1, hidden_dim=8), batch)


def test_learns_a_product_of_two_modalities(fit: Callable[..., float], product_task: object) -> None:
    torch.manual_seed(0)
    head = CrossAttentionFusion({"audio": 2, "text": 2}, 1, hidden_dim=16, dropout=0.0)
    assert fit(head, product_task) < 0.1
