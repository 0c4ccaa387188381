from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fusion.attention import Attention, TransformerLayer, sinusoidal_positions


def naive(module: Attention, query: Tensor, key: Tensor, key_mask: Tensor, pairs: Tensor | None) -> Tensor:
    """Eq. 1 of Vaswani et al. 2017 in loops over clips, heads and queries."""
    width = query.shape[2] // module.heads
    projected = module.query(query)
    keys, values = module.key_value(key).chunk(2, dim=-1)
    out = torch.zeros_like(query)
    for b in range(query.shape[0]):
        for q in range(query.shape[1]):
            real = [k for k in range(key.shape[1]) if key_mask[b, k] and (pairs is None or pairs[q, k])]
            if not real:
                continue
            joined = torch.zeros(query.shape[2])
            for head in range(module.heads):
                part = slice(head * width, (head + 1) * width)
                powers = [
                    math.exp(float((projected[b, q, part] @ keys[b, k, part]).detach()) / math.sqrt(width))
                    for k in real
                ]
                for power, k in zip(powers, real, strict=True):
                    joined[part] += power / sum(powers) * values[b, k, part]
            out[b, q] = module.output(joined)
    return out


def causal(queries: int, keys: int) -> Tensor:
    return torch.tensor([[k <= q for k in range(keys)] for q in range(queries)])


@pytest.mark.parametrize("pairs", [None, causal(4, 5)], ids=["all", "causal"])
@pytest.mark.parametrize("heads", [1, 2])
def test_equals_a_naive_softmax(heads: int, pairs: Tensor | None) -> None:
    torch.manual_seed(0)
    module = Attention(6, 3, heads=heads).eval()
    query, key = torch.randn(3, 4, 6), torch.randn(3, 5, 3)
    key_mask = torch.tensor([[True] * 5, [False, True, False, True, False], [True, False, False, False, False]])
    with torch.no_grad():
        actual = module(query, key, key_mask, pairs=pairs)
        torch.testing.assert_close(actual, naive(module, query, key, key_mask, pairs), atol=1e-5, rtol=1e-5)


def test_query_without_a_key_gets_zeros_and_no_gradient() -> None:
    torch.manual_seed(0)
    module = Attention(4, heads=2)
    query, key = torch.randn(2, 3, 4), torch.randn(2, 2, 4, requires_grad=True)
    # Clip 0 has no key at all; in clip 1 the first key is masked, so causal query 0 has none.
    key_mask = torch.tensor([[False, False], [False, True]])
    out = module(query, key, key_mask, pairs=causal(3, 2))
    assert (out[0] == 0).all()
    assert (out[1, 0] == 0).all()
    assert (out[1, 1:] != 0).all()
    out.sum().backward()
    assert key.grad is not None
    assert (key.grad[0] == 0).all()
    assert (key.grad[1, 0] == 0).all()
    assert (key.grad[1, 1] != 0).any()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_what_is_masked_has_no_influence() -> None:
    module = Attention(4, heads=1).eval()
    query, key = torch.randn(1, 2, 4), torch.randn(1, 3, 4)
    key_mask = torch.tensor([[True, True, False]])
    changed = key.masked_fill(~key_mask.unsqueeze(-1), 1e6)
    torch.testing.assert_close(module(query, changed, key_mask), module(query, key[:, :2], key_mask[:, :2]))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    module = Attention(4, heads=1, dropout=0.9)
    query, mask = torch.randn(1, 6, 4), torch.ones(1, 6, dtype=torch.bool)
    assert not torch.equal(module(query, query, mask), module(query, query, mask))
    module.eval()
    assert torch.equal(module(query, query, mask), module(query, query, mask))


def test_heads_must_divide() -> None:
    with pytest.raises(ValueError, match="6 is not a multiple of 4"):
        Attention(6, heads=4)


def test_layer_is_pre_norm() -> None:
    """`x + A(LN(x))`, then `y + F(LN(y))`, for self- and cross-attention."""
    torch.manual_seed(0)
    values, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, False], [True, True, True]])
    context, context_mask = torch.randn(2, 5, 6), torch.tensor([[True] * 4 + [False], [True] * 5])
    layer = TransformerLayer(4, heads=2).eval()
    normed = layer.norm(values)
    middle = values + naive(layer.attention, normed, normed, mask, None)
    torch.testing.assert_close(layer(values, mask), middle + layer.feedforward(middle), atol=1e-5, rtol=1e-5)
    cross = TransformerLayer(4, 6, heads=2).eval()
    assert cross.context_norm is not None
    middle = values + naive(cross.attention, cross.norm(values), cross.context_norm(context), context_mask, None)
    actual = cross(values, mask, context, context_mask)
    torch.testing.assert_close(actual, middle + cross.feedforward(middle), atol=1e-5, rtol=1e-5)


def test_causal_layer_does_not_look_ahead() -> None:
    layer = TransformerLayer(4, heads=1).eval()
    values, mask = torch.randn(1, 5, 4), torch.ones(1, 5, dtype=torch.bool)
    changed = values.clone()
    changed[:, 3:] += 1
    before, after = (layer(v, mask, pairs=causal(5, 5)) for v in (values, changed))
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert ((after - before)[:, 3:].abs() > 1e-4).any(dim=-1).all()


def test_layer_and_context_must_fit() -> None:
    values, mask = torch.randn(1, 2, 4), torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="attends to its own sequence only"):
        TransformerLayer(4)(values, mask, values, mask)
    with pytest.raises(ValueError, match="give it context and context_mask"):
        TransformerLayer(4, 4)(values, mask)


@pytest.mark.parametrize("dim", [1, 2, 5, 8])
def test_positions_count_real_steps(dim: int) -> None:
    mask = torch.tensor([[False, True, True, False, True], [True, False, False, False, False]])
    codes = sinusoidal_positions(mask, dim)
    half = (dim + 1) // 2
    for row, step, position in [(0, 1, 0), (0, 2, 1), (0, 4, 2), (1, 0, 0)]:
        angles = [position / 10000 ** (i / half) for i in range(half)]
        expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(codes[row, step], torch.tensor(expected[:dim]), atol=1e-6, rtol=1e-5)
    assert (codes[~mask] == 0).all()
