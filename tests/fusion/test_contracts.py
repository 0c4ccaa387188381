"""The contract of every head (see `fusion.testing`), over all of `fusion.__all__`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion import testing
from fusion.attention import Attention
from fusion.catalog import describe, head_class, head_classes
from fusion.head import FusionHead
from fusion.sequence import ModalitySequence

DIMS = {"text": 6, "audio": 3, "vision": 4}
LENGTHS = {"text": [4, 1, 6, 3], "audio": [9, 7, 1, 8], "vision": [5, 0, 2, 7]}
ALIGNED = {key: [4, 1, 6, 3] for key in DIMS}
HEADS = list(head_classes())


def build(name: str, dims: dict[str, int] | None = None) -> FusionHead:
    torch.manual_seed(0)
    return head_class(name)(input_dims=dims or DIMS, output_dim=2)


def batch_for(head: FusionHead, *, seed: int = 0, slack: int = 0) -> testing.Batch:
    lengths = ALIGNED if head.needs_alignment else LENGTHS
    return testing.ragged_batch(head.input_dims, lengths, seed=seed, slack=slack)


@pytest.mark.parametrize("name", HEADS)
def test_padding_blind(name: str) -> None:
    head = build(name)
    testing.check_padding_blind(head, batch_for(head))


@pytest.mark.parametrize("name", HEADS)
def test_missing_proof(name: str) -> None:
    head = build(name)
    testing.check_missing_proof(head, batch_for(head))


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_trains(name: str) -> None:
    head = build(name)
    testing.check_registered(head)
    testing.check_trains(head, batch_for(head))


@pytest.mark.parametrize("name", HEADS)
def test_says_whether_it_asks_for_losses(name: str) -> None:
    """And without any, the gradients of the parts of a batch add up to that of the whole."""
    head = build(name).train()
    head.apply(without_dropout)
    batch = batch_for(head)
    asks = bool(head(batch).losses) or type(head).target_losses is not FusionHead.target_losses
    assert type(head).own_losses == asks
    if asks:
        return
    gradients = []
    for parts in ([slice(0, 4)], [slice(0, 1), slice(1, 4)]):
        head.zero_grad()
        for rows in parts:
            part = {key: ModalitySequence(s.values[rows], s.mask[rows]) for key, s in batch.items()}
            head(part).prediction.square().sum().backward()
        gradients.append([p.grad.clone() for p in head.parameters() if p.grad is not None])
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(summed, whole, atol=1e-4, rtol=1e-3)


def without_dropout(module: torch.nn.Module) -> None:
    """Dropout would draw differently for the parts of a batch."""
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
    if isinstance(module, Attention):
        module.dropout = 0.0


@pytest.mark.parametrize("name", HEADS)
def test_a_single_clip_trains(name: str) -> None:
    head = build(name)
    testing.check_trains_on_one_clip(head, batch_for(head))


@pytest.mark.parametrize("name", HEADS)
def test_exports(name: str) -> None:
    head = build(name)
    testing.check_export(head, batch_for(head), batch_for(head, seed=1))


@pytest.mark.parametrize("name", HEADS)
def test_other_sets_of_modalities(name: str) -> None:
    """One, two, or four modalities, with names nobody has heard of."""
    every = {"ecg": 2, "eeg": 3, "gaze": 2, "voice": 4}
    for count in (1, 2, 4):
        dims = dict(list(every.items())[:count])
        if count < head_class(name).minimum_modalities:
            with pytest.raises(ValueError, match="fuses at least"):
                build(name, dims)
            continue
        head = build(name, dims)
        lengths = {key: [3, 5] if head.needs_alignment else [3 + i, 5] for i, key in enumerate(dims)}
        head.eval()
        testing.check_output(head, testing.ragged_batch(dims, lengths))


@pytest.mark.parametrize("name", HEADS)
def test_same_seed_same_numbers(name: str) -> None:
    batch = batch_for(build(name))
    first, second = (build(name).eval()(batch).prediction for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", HEADS)
def test_wrong_input_is_named(name: str) -> None:
    head = build(name)
    batch = batch_for(head)
    with pytest.raises(ValueError, match="built for audio, text, vision and was given audoi"):
        head({"audoi": batch["audio"]})
    with pytest.raises(ValueError, match="text has 3 features per step, but the head was built for 6"):
        head({"text": batch["audio"]})


def test_a_dotted_modality_is_refused() -> None:
    with pytest.raises(ValueError, match=r"may not be empty or hold a dot, as \['eye.gaze'\] do"):
        build("late", {"eye.gaze": 2, "text": 3})


@pytest.mark.parametrize("name", HEADS)
def test_is_described(name: str) -> None:
    row = describe(name)
    assert row.parameters > 0
    assert row.family in {"early", "late", "hierarchical", "tensor", "attention", "memory", "representation"}
    assert any(str(year) in row.paper for year in range(1990, 2027)), "the paper's year is missing"
    assert head_class(name).__doc__ is not None


@st.composite
def ragged_lengths(draw: st.DrawFn, aligned: bool) -> dict[str, list[int]]:
    """Lengths of up to four clips, with any non-empty subset of modalities in each."""
    clips = draw(st.integers(1, 4))
    subsets = [draw(st.sets(st.sampled_from(sorted(DIMS)), min_size=1)) for _ in range(clips)]
    shared = [draw(st.integers(1, 8)) for _ in range(clips)]
    return {
        key: [
            0 if key not in subsets[row] else shared[row] if aligned else draw(st.integers(1, 8))
            for row in range(clips)
        ]
        for key in DIMS
    }


@pytest.mark.parametrize("name", HEADS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_any_ragged_batch(name: str, data: st.DataObject) -> None:
    head = build(name)
    lengths = data.draw(ragged_lengths(head.needs_alignment))
    batch = testing.ragged_batch(DIMS, lengths, seed=data.draw(st.integers(0, 99)))
    if head.needs_alignment:
        steps = max(s.mask.shape[1] for s in batch.values())
        batch = {key: testing.pad_more({key: s}, steps - s.mask.shape[1])[key] for key, s in batch.items()}
    testing.check_padding_blind(head, batch)
