"""Checks of the contract that every head keeps; run them over a head of your own.

Each `check_*` raises AssertionError with what broke. They need torch alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence

Batch = dict[str, ModalitySequence]
TOLERANCE = 1e-5


def ragged_batch(
    input_dims: Mapping[str, int], lengths: Mapping[str, Sequence[int]], *, seed: int = 0, slack: int = 0
) -> Batch:
    """Random sequences with given lengths; what lies under the padding is garbage.

    Args:
        input_dims: features per modality.
        lengths: steps of each clip per modality; 0 is a missing modality.
        seed: of the values.
        slack: padded steps beyond the longest clip.
    """
    generator = torch.Generator().manual_seed(seed)
    batch: Batch = {}
    for key in sorted(input_dims):
        steps = max(1, *lengths[key]) + slack
        values = torch.randn(len(lengths[key]), steps, input_dims[key], generator=generator)
        mask = torch.arange(steps) < torch.tensor(list(lengths[key])).unsqueeze(1)
        batch[key] = ModalitySequence(values.masked_fill(~mask.unsqueeze(-1), float("nan")), mask)
    return batch


def pad_more(batch: Batch, steps: int, value: float = 1e4) -> Batch:
    """The same clips with `steps` more padded steps, filled with `value`."""
    out: Batch = {}
    for key, sequence in batch.items():
        clips, _, dim = sequence.values.shape
        values = torch.cat([sequence.values, sequence.values.new_full((clips, steps, dim), value)], dim=1)
        mask = torch.cat([sequence.mask, torch.zeros(clips, steps, dtype=torch.bool)], dim=1)
        out[key] = ModalitySequence(values, mask)
    return out


def take_clip(batch: Batch, row: int) -> Batch:
    """One clip of a batch, as a batch of its own, with no more padding than it needs."""
    steps = max(1, *(int(s.lengths[row]) for s in batch.values()))
    out: Batch = {}
    for key, sequence in batch.items():
        own = steps if len({s.mask.shape[1] for s in batch.values()}) == 1 else max(1, int(sequence.lengths[row]))
        out[key] = ModalitySequence(sequence.values[row : row + 1, :own], sequence.mask[row : row + 1, :own])
    return out


def without(batch: Batch, missing: Sequence[str]) -> Batch:
    """The same batch with some modalities masked out in every clip; their content stays."""
    return {
        key: ModalitySequence(s.values, torch.zeros_like(s.mask)) if key in missing else s for key, s in batch.items()
    }


def per_clip_tensors(output: FusionOutput) -> dict[str, Tensor]:
    """Everything in an output that belongs to single clips, by a readable name."""
    tensors = {"prediction": output.prediction}
    for group in ("unimodal", "weights", "representations"):
        tensors.update({f"{group}[{key}]": value for key, value in getattr(output, group).items()})
    return tensors


def check_output(head: FusionHead, batch: Batch) -> FusionOutput:
    """Shapes, finiteness, and weights that sum to 1 with nothing for a missing modality."""
    output: FusionOutput = head(batch)
    clips = next(iter(batch.values())).values.shape[0]
    assert output.prediction.shape == (clips, head.output_dim), f"prediction is {tuple(output.prediction.shape)}"
    for name, tensor in per_clip_tensors(output).items():
        assert torch.isfinite(tensor).all(), f"{name} is not finite"
    for name, loss in output.losses.items():
        assert loss.ndim == 0, f"loss {name} is not a scalar"
        assert torch.isfinite(loss), f"loss {name} is not finite"
    for key, value in output.unimodal.items():
        assert value.shape == output.prediction.shape, f"unimodal[{key}] is {tuple(value.shape)}"
        assert (value[~batch[key].present] == 0).all(), f"unimodal[{key}] is not zero where {key} is missing"
    if output.weights:
        assert set(output.weights) == set(head.modalities), f"weights for {sorted(output.weights)} only"
        total = torch.stack(list(output.weights.values())).sum(dim=0)
        some = torch.stack([s.present for s in batch.values()]).any(dim=0)
        assert torch.allclose(total[some], torch.ones_like(total[some]), atol=1e-4), "weights do not sum to 1"
        for key, weight in output.weights.items():
            assert (weight >= 0).all(), f"a weight of {key} is negative"
            missing = ~batch[key].present if key in batch else torch.ones_like(some)
            assert (weight[missing] == 0).all(), f"{key} has weight where it is missing"
    return output


def check_padding_blind(head: FusionHead, batch: Batch) -> None:
    """More padding, or other clips in the batch, never change a clip's output."""
    head.eval()
    with torch.no_grad():
        reference = per_clip_tensors(check_output(head, batch))
        for value in (1e4, float("nan")):
            padded = per_clip_tensors(head(pad_more(batch, 3, value)))
            for name, tensor in reference.items():
                _close(padded[name], tensor, f"{name} changes with padding of {value}")
        for row in range(reference["prediction"].shape[0]):
            alone = per_clip_tensors(head(take_clip(batch, row)))
            for name, tensor in reference.items():
                _close(alone[name], tensor[row : row + 1], f"{name} of clip {row} depends on the other clips")


def check_missing_proof(head: FusionHead, batch: Batch) -> None:
    """Every non-empty subset of modalities gives a finite output that ignores what is masked out."""
    head.eval()
    names = sorted(batch)
    for count in range(1, len(names) + 1):
        for subset in combinations(names, count):
            missing = [key for key in names if key not in subset]
            with torch.no_grad():
                masked = per_clip_tensors(check_output(head, without(batch, missing)))
                left_out = per_clip_tensors(head({key: batch[key] for key in subset}))
            for name, tensor in masked.items():
                _close(left_out[name], tensor, f"{name} sees the content of missing {missing}")
    check_no_gradient_to_masked(head, batch)


def check_no_gradient_to_masked(head: FusionHead, batch: Batch) -> None:
    """Masked positions get no gradient, from the prediction or from the head's own losses."""
    # Not zero where masked: the gradient of a square would hide there.
    leaves = {key: torch.nan_to_num(s.values, nan=1.0).requires_grad_() for key, s in batch.items()}
    output: FusionOutput = head({key: ModalitySequence(leaves[key], batch[key].mask) for key in batch})
    sum([output.prediction.sum(), *output.losses.values()], start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    for key, leaf in leaves.items():
        if leaf.grad is not None:
            assert (leaf.grad[~batch[key].mask] == 0).all(), f"masked positions of {key} get a gradient"
            assert torch.isfinite(leaf.grad).all(), f"the gradient of {key} is not finite"


def training_loss(head: FusionHead, batch: Batch, target: Tensor, index: Tensor) -> Tensor:
    """Squared error of prediction and unimodal predictions, plus all that the head asks for."""
    output: FusionOutput = head(batch)
    terms = [(output.prediction - target).square().mean()]
    terms += [(value - target).square().mean() for value in output.unimodal.values()]
    terms += list(output.losses.values())
    terms += list(head.target_losses(output, target, index).values())
    return torch.stack(terms).sum()


def check_trains(head: FusionHead, batch: Batch, *, steps: int = 4) -> None:
    """Every parameter is registered and gets a gradient within a few steps; the loss stays finite.

    Several steps, because a gate that starts at zero rightly keeps the gradient from what lies behind it at first.
    """
    head.train()
    clips = next(iter(batch.values())).values.shape[0]
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(clips, head.output_dim, generator=generator)
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    reached: dict[str, bool] = {name: False for name, p in head.named_parameters() if p.requires_grad}
    for _ in range(steps):
        optimiser.zero_grad()
        loss = training_loss(head, batch, target, torch.arange(clips))
        assert torch.isfinite(loss), "the training loss is not finite"
        loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in head.named_parameters():
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
                reached[name] |= bool((parameter.grad != 0).any())
        optimiser.step()
    dead = [name for name, seen in reached.items() if not seen]
    assert not dead, f"parameters without a gradient: {', '.join(dead)}"
    head.eval()
    with torch.no_grad():
        check_output(head, batch)


def check_registered(head: FusionHead) -> None:
    """No trainable tensor hides outside `named_parameters` (in a plain list, say)."""
    known = {id(p) for p in head.parameters()} | {id(b) for b in head.buffers()}
    for module in head.modules():
        for name, value in vars(module).items():
            if name.startswith("_") and name not in ("_parameters", "_buffers", "_modules"):
                continue
            for tensor in _tensors_in(value):
                assert id(tensor) in known, f"{type(module).__name__}.{name} holds a tensor that is not registered"


def check_trains_on_one_clip(head: FusionHead, batch: Batch) -> None:
    """A batch of one clip (the last of an epoch) trains like any other."""
    head.train()
    loss = training_loss(head, take_clip(batch, 0), torch.zeros(1, head.output_dim), torch.zeros(1, dtype=torch.int64))
    assert torch.isfinite(loss), "the training loss of a single clip is not finite"
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in head.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite on a single clip"


def check_export(head: FusionHead, batch: Batch, other: Batch) -> None:
    """`torch.export` on one batch gives the same numbers on another of the same shape."""
    head.eval()
    program = torch.export.export(head, (batch,)).module()
    with torch.no_grad():
        expected = per_clip_tensors(head(other))
        actual = per_clip_tensors(program(other))
    for name, tensor in expected.items():
        _close(actual[name], tensor, f"{name} differs after torch.export")


def _tensors_in(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for v in value.values() for t in _tensors_in(v)]
    if isinstance(value, list | tuple | set):
        return [t for v in value for t in _tensors_in(v)]
    return []


def _close(actual: Tensor, expected: Tensor, message: str) -> None:
    difference = (actual - expected).abs().max().item() if actual.numel() else 0.0
    scale = max(1.0, expected.abs().max().item() if expected.numel() else 0.0)
    assert difference <= TOLERANCE * scale, f"{message} (largest difference {difference:.2g})"
