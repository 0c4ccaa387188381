from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion.grid import at_most, common_grid, padded_alike, resample, shared_steps
from fusion.sequence import ModalitySequence
from fusion.testing import ragged_batch

PIECES = 840
"""Fine pieces per step in the naive reference: divisible by every cell count up to 8."""


def naive_cells(steps: Tensor, cells: int) -> Tensor:
    """Cut `(L, D)` into equal cells by repeating every step `PIECES` times and averaging runs of pieces."""
    fine = steps.repeat_interleave(PIECES, dim=0)
    return torch.stack([run.mean(dim=0) for run in fine.chunk(cells)])


@st.composite
def gappy(draw: st.DrawFn) -> ModalitySequence:
    """Up to four clips with gaps anywhere, some of them without a real step; NaN where masked."""
    clips, steps = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    bits = draw(st.lists(st.booleans(), min_size=clips * steps, max_size=clips * steps))
    mask = torch.tensor(bits).view(clips, steps)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    values = torch.randn(clips, steps, 2, generator=generator)
    return ModalitySequence(values.masked_fill(~mask.unsqueeze(-1), float("nan")), mask)


@settings(deadline=None, derandomize=True)
@given(sequence=gappy(), steps=st.integers(1, 8))
def test_common_grid_averages_each_cell(sequence: ModalitySequence, steps: int) -> None:
    out = common_grid({"audio": sequence}, steps)["audio"]
    assert out.values.shape == (len(sequence.values), steps, 2)
    for row, mask in enumerate(sequence.mask):
        real = sequence.values[row][mask]
        expected = naive_cells(real, steps) if len(real) else torch.zeros(steps, 2)
        torch.testing.assert_close(out.values[row], expected, atol=1e-5, rtol=0)
        assert out.mask[row].all() if len(real) else not out.mask[row].any()


@settings(deadline=None, derandomize=True)
@given(sequence=gappy(), steps=st.integers(1, 40))
def test_common_grid_keeps_the_mass(sequence: ModalitySequence, steps: int) -> None:
    """Cells are equally wide and cover everything once: their mean is the mean of the real steps."""
    out = common_grid({"audio": sequence}, steps)["audio"]
    for row in range(len(sequence.mask)):
        real = sequence.values[row][sequence.mask[row]]
        mean = real.mean(dim=0) if len(real) else torch.zeros(2)
        torch.testing.assert_close(out.values[row].mean(dim=0), mean, atol=1e-5, rtol=0)


def test_common_grid_by_hand() -> None:
    ramp = ModalitySequence.pad([torch.tensor([[0.0], [3.0], [6.0]]), torch.tensor([[1.0], [5.0]])])
    out = common_grid({"text": ramp}, 2)["text"].values.squeeze(-1)
    # Three steps in two cells of 1.5 steps: (0 + 3 / 2) / 1.5 and (3 / 2 + 6) / 1.5.
    assert out.tolist() == [[1.0, 5.0], [1.0, 5.0]]


@settings(deadline=None, derandomize=True)
@given(sequence=gappy(), steps=st.integers(1, 8))
def test_at_most_pools_long_clips_only(sequence: ModalitySequence, steps: int) -> None:
    out = at_most(sequence, steps)
    assert out.values.shape[1] == min(sequence.mask.shape[1], steps)
    for row, mask in enumerate(sequence.mask):
        real = sequence.values[row][mask]
        kept = out.values[row][out.mask[row]]
        if len(real) <= steps:
            assert torch.equal(kept, real)
        else:
            torch.testing.assert_close(kept, naive_cells(real, steps), atol=1e-5, rtol=0)
        assert (out.values[row][~out.mask[row]] == 0).all()


def test_at_most_is_blind_to_padding() -> None:
    """A clip at the bound and one above it give the same cells, however long the batch is padded."""
    clips = [torch.randn(5, 3), torch.randn(9, 3)]
    short = at_most(ModalitySequence.pad(clips), 5)
    long = at_most(ModalitySequence.pad(clips, steps=50), 5)
    # Up to rounding: over how many terms a product is summed at once differs with its width, on some processors.
    torch.testing.assert_close(short.values, long.values, rtol=0, atol=1e-6)
    assert torch.equal(short.values[0], clips[0])
    alone = at_most(ModalitySequence.pad(clips[:1]), 5)
    assert torch.equal(short.values[:1], alone.values)


def test_at_most_gives_masked_steps_no_gradient() -> None:
    values = torch.randn(2, 6, 1, requires_grad=True)
    mask = torch.tensor([[True] * 6, [True, False, True, False, False, False]])
    at_most(ModalitySequence(values, mask), 4).values.sum().backward()
    assert values.grad is not None
    # Six steps in four cells of 1.5: each step fills 1 / 1.5 of a cell altogether; untouched steps count 1.
    expected = torch.where(mask, torch.tensor([[2 / 3], [1.0]]), torch.tensor(0.0)).unsqueeze(-1)
    torch.testing.assert_close(values.grad, expected)


def test_at_most_exports() -> None:
    class Pool(torch.nn.Module):
        def forward(self, sequence: ModalitySequence) -> Tensor:
            return at_most(sequence, 3).values

    first = ModalitySequence.pad([torch.randn(7, 2), torch.randn(2, 2)])
    second = ModalitySequence.pad([torch.randn(1, 2), torch.randn(7, 2)])
    program = torch.export.export(Pool(), (first,)).module()
    torch.testing.assert_close(program(second), at_most(second, 3).values)


def test_at_most_needs_a_step() -> None:
    with pytest.raises(ValueError, match="at least 1 step, not 0"):
        at_most(ModalitySequence.pad([torch.ones(2, 1)]), 0)


@settings(deadline=None, derandomize=True)
@given(sequence=gappy(), data=st.data())
def test_resample_gives_each_clip_its_own_cells(sequence: ModalitySequence, data: st.DataObject) -> None:
    cells = [data.draw(st.integers(0, 8)) for _ in sequence.mask]
    out = resample(sequence, torch.tensor(cells), 8)
    for row, count in enumerate(cells):
        real = sequence.values[row][sequence.mask[row]]
        assert out.mask[row].sum() == (count if len(real) else 0)
        if count and len(real):
            torch.testing.assert_close(out.values[row, :count], naive_cells(real, count), atol=1e-5, rtol=0)
        assert (out.values[row][~out.mask[row]] == 0).all()


def test_what_is_aligned_by_nature_is_padded_and_not_judged() -> None:
    """A modality whose last step is a gap: its end differs, and it is aligned all the same."""
    text = ModalitySequence(torch.ones(2, 3, 1), torch.tensor([[True, True, False], [True, False, False]]))
    audio = ModalitySequence(torch.ones(2, 4, 2), torch.ones(2, 4, dtype=torch.bool))
    padded = padded_alike({"audio": audio, "text": text})
    assert padded["audio"] is audio
    assert padded["text"].mask.tolist() == [[True, True, False, False], [True, False, False, False]]
    torch.testing.assert_close(padded["text"].values[:, :3], text.values)


class TestSharedSteps:
    def test_aligned_clips_stay_and_missing_ones_are_padded(self) -> None:
        dims = {"audio": 2, "text": 1, "vision": 1}
        batch = ragged_batch(dims, {"audio": [3, 1], "text": [3, 1], "vision": [0, 0]})
        shared = shared_steps(batch)
        for key in ("audio", "text"):
            assert torch.equal(shared[key].mask, batch[key].mask)
            torch.testing.assert_close(shared[key].values, batch[key].values, equal_nan=True)
        assert shared["vision"].mask.tolist() == [[False] * 3] * 2
        assert shared["vision"].values.shape == (2, 3, 1)

    def test_gaps_may_differ_but_ends_may_not(self) -> None:
        full = torch.ones(1, 3, dtype=torch.bool)
        gap = torch.tensor([[True, False, True]])
        values = torch.zeros(1, 3, 1)
        shared_steps({"audio": ModalitySequence(values, full), "text": ModalitySequence(values, gap)})
        short = torch.tensor([[True, True, False]])
        with pytest.raises(ValueError, match=r"\{'audio': 3, 'text': 2\} steps"):
            shared_steps({"audio": ModalitySequence(values, full), "text": ModalitySequence(values, short)})
