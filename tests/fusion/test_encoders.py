from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fusion import testing
from fusion.attention import sinusoidal_positions
from fusion.encoders import (
    ConvolutionEncoder,
    RecurrentEncoder,
    TransformerEncoder,
    UnimodalEncoder,
    build_encoder,
)
from fusion.sequence import ModalitySequence

ENCODERS = ["gru", "lstm", "transformer", "convolution", "none"]
POOLINGS = ["attention", "mean", "statistics", "last"]


def gappy(seed: int = 0) -> ModalitySequence:
    """Three clips of 4, 2 and 0 real steps, with gaps and garbage in them."""
    mask = torch.tensor([[True, True, False, True, True, False], [False, True, False, False, True, False], [False] * 6])
    values = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(seed))
    return ModalitySequence(values.masked_fill(~mask.unsqueeze(-1), 1e3), mask)


def real_steps(sequence: ModalitySequence, row: int) -> Tensor:
    return sequence.values[row][sequence.mask[row]]


def stock_recurrence(encoder: RecurrentEncoder, cell: str, size: int) -> nn.RNNBase:
    """torch's own stacked recurrence with the encoder's weights."""
    layers, both = len(encoder.forward_cells), len(encoder.backward_cells) > 0
    kind = nn.LSTM if cell == "lstm" else nn.GRU
    stock = kind(3, size, num_layers=layers, bidirectional=both, batch_first=True)
    weights = {}
    for cells, suffix in ((encoder.forward_cells, ""), (encoder.backward_cells, "_reverse")):
        for level, module in enumerate(cells):
            for name, value in module.state_dict().items():
                weights[name.replace("_l0", f"_l{level}{suffix}")] = value
    stock.load_state_dict(weights)
    return stock


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_recurrence_equals_torchs_on_each_clip_alone(cell: str, bidirectional: bool, layers: int) -> None:
    torch.manual_seed(0)
    encoder = RecurrentEncoder(3, 8, cell=cell, layers=layers, bidirectional=bidirectional).eval()
    stock = stock_recurrence(encoder, cell, 4 if bidirectional else 8)
    sequence = gappy()
    out = encoder(sequence)
    for row in (0, 1):
        torch.testing.assert_close(real_steps(out, row), stock(real_steps(sequence, row).unsqueeze(0))[0][0])
    assert out.mask.tolist()[0] == [True] * 4 + [False] * 2
    assert (out.values[~out.mask] == 0).all()


def test_recurrence_drops_out_between_layers_only() -> None:
    torch.manual_seed(0)
    one = RecurrentEncoder(3, 8, layers=1, dropout=0.9).train()
    assert torch.equal(one(gappy()).values, one(gappy()).values)
    two = RecurrentEncoder(3, 8, layers=2, dropout=0.9).train()
    assert not torch.equal(two(gappy()).values, two(gappy()).values)


def test_transformer_encoder_on_each_clip_alone() -> None:
    torch.manual_seed(0)
    encoder = TransformerEncoder(3, 8, layers=2, heads=2).eval()
    sequence = gappy()
    out = encoder(sequence)
    for row in (0, 1):
        real = real_steps(sequence, row).unsqueeze(0)
        mask = torch.ones(real.shape[:2], dtype=torch.bool)
        values = encoder.project(real) + sinusoidal_positions(mask, 8)
        for layer in encoder.layers:
            values = layer(values, mask)
        torch.testing.assert_close(real_steps(out, row), encoder.norm(values)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_convolution_equals_a_naive_one(kernel: int) -> None:
    torch.manual_seed(0)
    encoder = ConvolutionEncoder(3, 4, layers=3, kernel=kernel).eval()
    sequence = gappy()
    out = encoder(sequence)
    with torch.no_grad():
        for row in (0, 1):
            values = encoder.project(real_steps(sequence, row))
            for level, layer in enumerate(encoder.layers):
                new = []
                for step in range(len(values)):
                    total = layer.bias.clone()
                    for tap in range(kernel):
                        source = step + (tap - kernel // 2) * 2**level
                        if 0 <= source < len(values):
                            total += layer.weight[:, :, tap] @ values[source]
                    new.append(values[step] + total.clamp(min=0))
                values = torch.stack(new)
            torch.testing.assert_close(real_steps(out, row), values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
@settings(deadline=None, derandomize=True, max_examples=20)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), slack=st.integers(0, 3), seed=st.integers(0, 99))
def test_padding_and_neighbours_change_nothing(name: str, lengths: list[int], slack: int, seed: int) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, 2, 4).eval()
    sequence = testing.ragged_batch({"a": 2}, {"a": lengths}, seed=seed, slack=slack)["a"].zeroed()
    out = encoder(sequence)
    for row, length in enumerate(lengths):
        if length:
            alone = encoder(
                ModalitySequence(sequence.values[row : row + 1, :length], sequence.mask[row : row + 1, :length])
            )
            torch.testing.assert_close(real_steps(out, row), alone.values[0], atol=1e-5, rtol=1e-5)
    assert (out.values[~out.mask] == 0).all()


@pytest.mark.parametrize("name", ["gru", "lstm", "transformer", "convolution"])
def test_steps_know_their_past_and_future(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, 2, 4).eval()
    values, mask = torch.randn(1, 5, 2), torch.ones(1, 5, dtype=torch.bool)
    before = encoder(ModalitySequence(values, mask)).values
    for changed in (0, 4):
        other = values.clone()
        other[:, changed] = torch.randn(2)
        after = encoder(ModalitySequence(other, mask)).values
        assert (after[:, 2] - before[:, 2]).abs().max() > 1e-4


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_unimodal_encoder_pools_what_it_encoded(encoder: str, pooling: str) -> None:
    torch.manual_seed(0)
    module = UnimodalEncoder(3, 4, encoder=encoder, pooling=pooling).eval()
    sequence = gappy()
    out = module(sequence)
    torch.testing.assert_close(out[:2], module.pooling(module.encoder(sequence))[:2])
    assert (out[:2] != 0).any(dim=1).all()
    assert (out[2] == 0).all()
    for parameter in module.parameters():
        parameter.grad = None
    out.square().sum().backward()
    dead = [n for n, p in module.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    # Softmax does not see a constant added to keys; nothing else may be without a gradient.
    assert not [name for name in dead if not name.endswith("key_value.bias")]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_only_the_last_state_is_read_one_way(pooling: str) -> None:
    """The backward state of the last step knows no other step."""
    encoder = UnimodalEncoder(2, 4, pooling=pooling).encoder
    assert isinstance(encoder, RecurrentEncoder)
    assert (len(encoder.backward_cells) == 0) == (pooling == "last")


def test_an_odd_size_reads_one_way() -> None:
    encoder = build_encoder("gru", 2, 5)
    assert isinstance(encoder, RecurrentEncoder)
    assert len(encoder.backward_cells) == 0
    with pytest.raises(ValueError, match="two directions need an even hidden_dim, not 5"):
        RecurrentEncoder(2, 5, bidirectional=True)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="encoder must be one of gru, lstm, transformer, convolution, none, not 'rnn'"):
        build_encoder("rnn", 2, 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pooling must be one of attention, mean, statistics, last, not 'max'"):
        UnimodalEncoder(2, 4, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kernel must be odd so that a step stays in the middle, not 2"):
        ConvolutionEncoder(2, 4, kernel=2)
