from __future__ import annotations

import pytest
import torch

from fusion import testing
from fusion.attention import sinusoidal_positions
from fusion.grid import at_most
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens, join, prepend

DIMS = {"audio": 3, "text": 5}


def test_tokens_are_normalised_projections_with_positions() -> None:
    torch.manual_seed(0)
    module = ModalityTokens(DIMS, 8).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [4, 2], "text": [1, 3]})
    tokens = module(batch)
    for key, sequence in batch.items():
        for row in range(2):
            real = sequence.values[row][sequence.mask[row]]
            linear = real @ module.encoders[key].project.weight.T + module.encoders[key].project.bias
            centred = linear - linear.mean(dim=1, keepdim=True)
            expected = centred / (linear.var(dim=1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            expected = expected + sinusoidal_positions(torch.ones(1, len(real), dtype=torch.bool), 8)[0]
            torch.testing.assert_close(tokens[key].values[row, : len(real)], expected)
        assert torch.equal(tokens[key].mask, sequence.mask)
        assert (tokens[key].values[~sequence.mask] == 0).all()


def test_masked_tokens_are_zero_also_behind_dropout_and_biases() -> None:
    module = ModalityTokens(DIMS, 8, dropout=0.5).train()
    for norm in module.norms.values():
        torch.nn.init.ones_(norm.bias)
    for sequence in module(testing.ragged_batch(DIMS, {"audio": [4, 2], "text": [0, 3]})).values():
        assert (sequence.values[~sequence.mask] == 0).all()
        assert (sequence.values[sequence.mask] != 0).any()


def test_long_modalities_are_pooled_to_the_bound() -> None:
    torch.manual_seed(0)
    module = ModalityTokens(DIMS, 8, max_steps=4).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [9, 3], "text": [2, 0]})
    tokens = module(batch)
    assert tokens["audio"].lengths.tolist() == [4, 3]
    assert tokens["text"].lengths.tolist() == [2, 0]
    pooled = {key: at_most(sequence.zeroed(), 4) for key, sequence in batch.items()}
    unbounded = ModalityTokens(DIMS, 8).eval()
    unbounded.load_state_dict(module.state_dict())
    torch.testing.assert_close(tokens["audio"].values, unbounded(pooled)["audio"].values)


@pytest.mark.parametrize("encoder", ["gru", "transformer", "convolution", "none"])
def test_padding_beyond_the_bound_changes_nothing(encoder: str) -> None:
    torch.manual_seed(0)
    module = ModalityTokens(DIMS, 8, max_steps=4, encoder=encoder).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [4, 7], "text": [2, 4]})
    before, after = module(batch), module(testing.pad_more(batch, 6))
    for key in DIMS:
        for row in range(2):
            first, second = (out[key].values[row][out[key].mask[row]] for out in (before, after))
            torch.testing.assert_close(first, second)


def test_gaps_are_closed() -> None:
    torch.manual_seed(0)
    module = ModalityTokens(DIMS, 8).eval()
    values = {key: torch.randn(1, 4, dim) for key, dim in DIMS.items()}
    mask = torch.tensor([[False, True, False, True]])
    gappy = module({key: ModalitySequence(v, mask) for key, v in values.items()})
    closed = module({key: ModalitySequence(v[:, [1, 3]], mask[:, [1, 3]]) for key, v in values.items()})
    for key in DIMS:
        torch.testing.assert_close(gappy[key].values[:, :2], closed[key].values)
        assert gappy[key].mask.tolist() == [[True, True, False, False]]
        assert (gappy[key].values[:, 2:] == 0).all()


def test_the_bound_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="max_steps must be at least 1, not 0"):
        ModalityTokens(DIMS, 8, max_steps=0)


def test_join_keeps_order_and_masks() -> None:
    first = ModalitySequence(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[True, False]]))
    second = ModalitySequence(torch.tensor([[[3.0]]]), torch.tensor([[True]]))
    both = join([first, second])
    assert both.values.flatten().tolist() == [1.0, 2.0, 3.0]
    assert both.mask.tolist() == [[True, False, True]]


def test_prepended_tokens_are_real_in_every_clip() -> None:
    sequence = ModalitySequence(torch.zeros(2, 1, 2), torch.tensor([[True], [False]]))
    tokens = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    both = prepend(tokens, sequence)
    assert both.mask.tolist() == [[True, True, True], [True, True, False]]
    assert both.values[:, :2].tolist() == [[[1.0, 2.0], [3.0, 4.0]]] * 2
    both.values.sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad == 2).all()  # both clips teach them
