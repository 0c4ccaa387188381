"""How much each modality moved a prediction: exact Shapley values over modality subsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import comb

import torch
from torch import Tensor, nn

from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence
from fusion.wrapper import HeadWrapper, eval_mode


def shapley_values(
    head: FusionHead | HeadWrapper,
    inputs: Mapping[str, ModalitySequence],
    *,
    output: Callable[[FusionOutput], Tensor] | None = None,
    baseline: Tensor | float = 0.0,
    max_batch: int | None = None,
) -> dict[str, Tensor]:
    """Exact Shapley values of the modalities, per clip and output.

    Shapley, "A Value for n-Person Games", 1953; over inputs of a model: Lundberg & Lee, "A Unified Approach to
    Interpreting Model Predictions", NeurIPS 2017, eq. 4. The players are the modalities. The value `v(S)` of a
    subset is what the head predicts with every modality outside `S` masked out, so no made-up input is needed.
    Heads need not accept a clip with nothing in it, so `v` of the empty set is not asked of the head: it is
    `baseline`, the prediction of someone who has seen nothing. The mean prediction over the training split is the
    natural choice; with the default of 0 the values sum to the prediction itself.

    Properties: the values of a clip sum to its prediction minus `baseline`; a modality that never changes the
    prediction gets 0, and one that is missing in a clip gets exactly 0 there; a clip with nothing in it gets 0
    everywhere. The cost is `2^M - 1` forward passes, in eval mode (restored afterwards) and without gradients.

    Args:
        head: a head, or a wrapper around one.
        inputs: what its `forward` takes.
        output: picks the `(B, O)` numbers to explain, such as `lambda o: o.prediction.softmax(-1)`; the
            prediction when None.
        baseline: `v` of the empty set: a number, or a tensor that broadcasts to `(B, O)`.
        max_batch: most rows in one forward pass; all at once when None. It changes memory, not values.

    Returns:
        Per modality of the head, `(B, O)` in the units of what `output` picks.

    Raises:
        ValueError: `max_batch` below 1, or the head does not accept `inputs`.
    """
    if max_batch is not None and max_batch < 1:
        raise ValueError(f"max_batch must be at least 1 row per forward pass, not {max_batch}")
    known = {key: inputs[key] for key in head.modalities if key in inputs}
    if not known or set(inputs) != set(known):
        head(inputs)  # raises the head's own error about unknown or missing names
    present = stack_present(known)  # (B, M)
    members = _subsets(len(known)).to(present.device)  # (2^M, M), the empty set first
    with torch.no_grad(), eval_mode(head):
        rows = [
            _evaluate(head, known, members[1:], chunk, output)
            for chunk in _chunks(members[1:], present.shape[0], max_batch)
        ]
    predicted = torch.cat(rows).view(members.shape[0] - 1, present.shape[0], -1)  # (2^M - 1, B, O)
    empty = torch.as_tensor(baseline, dtype=predicted.dtype, device=predicted.device).expand_as(predicted[0])
    some = (members[1:, None, :] & present).any(dim=-1)  # (2^M - 1, B)
    worth = torch.cat([empty.unsqueeze(0), torch.where(some.unsqueeze(-1), predicted, empty)])  # (2^M, B, O)
    values = torch.einsum("ms,sbo->mbo", _weights(members), worth.double()).to(worth.dtype)
    exact = {key: values[column] * present[:, column, None] for column, key in enumerate(known)}
    return {key: exact.get(key, torch.zeros_like(predicted[0])) for key in head.modalities}


def _subsets(count: int) -> Tensor:
    """`(2^count, count)` bool: every subset; row k holds the bits of k."""
    return (torch.arange(2**count).unsqueeze(1) >> torch.arange(count)) & 1 == 1


def _weights(members: Tensor) -> Tensor:
    """`(M, 2^M)`: with what weight each subset's value enters each player's Shapley value.

    A subset with player i enters with `1 / (M C(M-1, size-1))`, one without with `-1 / (M C(M-1, size))`.
    """
    count = members.shape[1]
    per_size = torch.tensor([1 / (count * comb(count - 1, size)) for size in range(count)], dtype=torch.float64)
    per_size = per_size.to(members.device)
    size = members.sum(dim=1, keepdim=True)  # (2^M, 1)
    joined = per_size[(size - 1).clamp(min=0)]
    left = per_size[size.clamp(max=count - 1)]
    return torch.where(members, joined, -left).T


def _chunks(subsets: Tensor, clips: int, max_batch: int | None) -> Iterator[Tensor]:
    """Row numbers `subset * clips + clip`, in pieces of at most `max_batch`."""
    rows = torch.arange(len(subsets) * clips, device=subsets.device)
    yield from torch.split(rows, max_batch or max(1, len(rows)))


def _evaluate(
    head: nn.Module,
    inputs: Mapping[str, ModalitySequence],
    subsets: Tensor,
    rows: Tensor,
    output: Callable[[FusionOutput], Tensor] | None,
) -> Tensor:
    """`(len(rows), O)`: the head on clip `row % B` with the modalities of subset `row // B`."""
    clips = next(iter(inputs.values())).mask.shape[0]
    clip, subset = rows % clips, rows // clips
    batch = {
        key: ModalitySequence(sequence.values[clip], sequence.mask[clip] & subsets[subset, column, None])
        for column, (key, sequence) in enumerate(inputs.items())
    }
    result: FusionOutput = head(batch)
    return result.prediction if output is None else output(result)
