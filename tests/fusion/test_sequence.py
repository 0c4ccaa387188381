from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.sequence import ModalitySequence


@st.composite
def gappy(draw: st.DrawFn) -> ModalitySequence:
    clips, steps = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    bits = draw(st.lists(st.booleans(), min_size=clips * steps, max_size=clips * steps))
    values = torch.arange(clips * steps * 2, dtype=torch.float32).view(clips, steps, 2) + 1
    return ModalitySequence(values, torch.tensor(bits).view(clips, steps))


@settings(deadline=None, derandomize=True)
@given(gappy())
def test_compaction_keeps_real_steps_in_order(sequence: ModalitySequence) -> None:
    compact = sequence.compacted()
    for row, mask in enumerate(sequence.mask):
        real = sequence.values[row][mask]
        assert compact.mask[row].tolist() == [True] * len(real) + [False] * (len(mask) - len(real))
        assert torch.equal(compact.values[row, : len(real)], real)
    again = compact.compacted()
    assert torch.equal(again.values, compact.values)
    assert torch.equal(compact.lengths, sequence.lengths)
    assert torch.equal(compact.present, sequence.present)


@settings(deadline=None, derandomize=True)
@given(gappy())
def test_zeroed_changes_masked_positions_only(sequence: ModalitySequence) -> None:
    zeroed = sequence.zeroed()
    assert torch.equal(zeroed.values[sequence.mask], sequence.values[sequence.mask])
    assert (zeroed.values[~sequence.mask] == 0).all()


def test_zeroed_stops_nan_and_gradient() -> None:
    values = torch.tensor([[[1.0], [float("nan")]]], requires_grad=True)
    zeroed = ModalitySequence(values, torch.tensor([[True, False]])).zeroed().values
    assert zeroed.flatten().tolist() == [1.0, 0.0]
    zeroed.sum().backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == [1.0, 0.0]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(0, 3))
def test_padding_round_trips(lengths: list[int], slack: int) -> None:
    clips = [torch.randn(length, 3) for length in lengths]
    padded = ModalitySequence.pad(clips, steps=max(1, *lengths) + slack)
    assert padded.lengths.tolist() == lengths
    assert padded.present.tolist() == [length > 0 for length in lengths]
    for row, clip in enumerate(clips):
        assert torch.equal(padded.values[row][padded.mask[row]], clip)
    assert (padded.values[~padded.mask] == 0).all()


def test_padding_to_the_longest_has_at_least_one_step() -> None:
    assert ModalitySequence.pad([torch.zeros(0, 2)]).values.shape == (1, 1, 2)
    assert ModalitySequence.pad([torch.zeros(3, 2), torch.zeros(1, 2)]).values.shape == (2, 3, 2)


def test_padding_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="nothing to pad: give at least one"):
        ModalitySequence.pad([])
    with pytest.raises(ValueError, match="cannot pad to 2 steps: the longest sequence has 3"):
        ModalitySequence.pad([torch.zeros(3, 2)], steps=2)


@pytest.mark.parametrize(
    ("values", "mask"), [((2, 3), (2, 3)), ((2, 3, 1), (2, 3, 1)), ((2, 3, 1), (2, 4)), ((1, 3, 1), (2, 3))]
)
def test_shapes_must_agree(values: tuple[int, ...], mask: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs values \(B, T, D\) and mask \(B, T\)"):
        ModalitySequence(torch.zeros(values), torch.ones(mask, dtype=torch.bool))


def test_the_mask_must_be_boolean() -> None:
    with pytest.raises(ValueError, match=r"mask must be boolean .* not torch.float32: use mask.bool\(\)"):
        ModalitySequence(torch.zeros(1, 2, 1), torch.ones(1, 2))
    ModalitySequence(torch.zeros(1, 2, 1), torch.ones(1, 2).bool())  # the advice works


def test_moves_both_tensors() -> None:
    moved = ModalitySequence(torch.zeros(1, 2, 1), torch.ones(1, 2).bool()).to("meta")
    assert moved.values.device.type == moved.mask.device.type == "meta"


def test_torch_sees_through_it() -> None:
    """Registered with torch's tree utilities, so exported programs take it as input."""
    sequence = ModalitySequence(torch.ones(1, 2, 1), torch.ones(1, 2).bool())
    leaves, structure = torch.utils._pytree.tree_flatten(sequence)
    assert [leaf is tensor for leaf, tensor in zip(leaves, (sequence.values, sequence.mask), strict=True)] == [True] * 2
    rebuilt = torch.utils._pytree.tree_unflatten([leaf + leaf for leaf in leaves[:1]] + leaves[1:], structure)
    assert isinstance(rebuilt, ModalitySequence)
    assert (rebuilt.values == 2).all()
