"""A common time grid for modalities of unequal length."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fusion.sequence import ModalitySequence


def common_grid(inputs: Mapping[str, ModalitySequence], steps: int) -> dict[str, ModalitySequence]:
    """Resample every modality to `steps` steps that cover each clip from its first to its last real step.

    Cell `g` of the grid is the mean of the real steps in `[g, g + 1) * length / steps`, each weighted by how much
    of it lies inside; so a sequence longer than the grid is averaged, a shorter one is repeated, and nothing is
    lost or invented. It assumes that the modalities span the same time, which is what a clip is.

    Args:
        inputs: sequences with any lengths.
        steps: length of the grid.

    Returns:
        Sequences `(B, steps, D)`; the mask is all True where the modality is present, all False where not.

    Example:
        >>> ramp = ModalitySequence.pad([torch.arange(4.0).unsqueeze(-1)])
        >>> common_grid({"audio": ramp}, 2)["audio"].values.squeeze()
        tensor([0.5000, 2.5000])
    """
    out = {}
    for key, sequence in inputs.items():
        out[key] = resample(sequence, torch.full_like(sequence.lengths, steps), steps)
    return out


def shared_steps(inputs: Mapping[str, ModalitySequence]) -> dict[str, ModalitySequence]:
    """Sequences that are aligned already, with one `T`: shorter ones are padded at the end.

    Args:
        inputs: sequences in which step `k` of a clip is the same moment in every modality.

    Raises:
        ValueError: a clip has more steps in one modality than in another, which no padding explains.

    Example:
        >>> text, none = torch.ones(2, 1), torch.zeros(0, 1)
        >>> shared_steps({"a": ModalitySequence.pad([text]), "b": ModalitySequence.pad([none])})["b"].mask
        tensor([[False, False]])
    """
    padded = padded_alike(inputs)
    steps = next(iter(padded.values())).mask.shape[1]
    places = torch.arange(1, steps + 1, device=next(iter(padded.values())).mask.device)
    ends = torch.stack([(sequence.mask * places).amax(dim=1) for sequence in padded.values()])  # (M, B)
    unlike = ((ends != ends.amax(dim=0)) & (ends > 0)).any(dim=0)
    if unlike.any():
        clip = int(unlike.nonzero()[0])
        found = {key: int(end) for key, end in zip(padded, ends[:, clip], strict=True)}
        raise ValueError(f"these modalities are not aligned: a clip has {found} steps; put them on one grid")
    return padded


def padded_alike(inputs: Mapping[str, ModalitySequence]) -> dict[str, ModalitySequence]:
    """Sequences padded at the end to one `T`, without a look at whether they are aligned: for those that are by nature.

    Args:
        inputs: sequences in which step `k` of a clip is the same moment in every modality.
    """
    steps = max(sequence.mask.shape[1] for sequence in inputs.values())
    return {key: _padded(sequence, steps) for key, sequence in inputs.items()}


def _padded(sequence: ModalitySequence, steps: int) -> ModalitySequence:
    more = steps - sequence.mask.shape[1]
    if not more:
        return sequence
    pad = torch.nn.functional.pad
    return ModalitySequence(pad(sequence.values, (0, 0, 0, more)), pad(sequence.mask, (0, more)))


def at_most(sequence: ModalitySequence, steps: int) -> ModalitySequence:
    """Pool clips longer than `steps` down to `steps` cells; leave the steps of shorter ones as they are.

    The bound on what attention costs over long sequences. Gaps are closed; cells are those of `common_grid`.

    Args:
        sequence: `(B, T, D)`.
        steps: most steps a clip may keep.

    Returns:
        `(B, min(T, steps), D)`, real steps first.

    Raises:
        ValueError: `steps` is below 1.

    Example:
        >>> clips = ModalitySequence.pad([torch.arange(4.0).unsqueeze(-1), torch.tensor([[7.0]])])
        >>> at_most(clips, 2).values.squeeze(-1)
        tensor([[0.5000, 2.5000],
                [7.0000, 0.0000]])
    """
    if steps < 1:
        raise ValueError(f"a sequence keeps at least 1 step, not {steps}")
    if sequence.mask.shape[1] <= steps:
        return sequence.compacted().zeroed()
    return resample(sequence, sequence.lengths.clamp(max=steps), steps)


def resample(sequence: ModalitySequence, lengths: Tensor, steps: int) -> ModalitySequence:
    """Resample each clip to a number of steps of its own, in cells as those of `common_grid`.

    Args:
        sequence: `(B, T, D)`.
        lengths: `(B,)` int, cells that each clip is divided into.
        steps: length of the result; cells beyond it are cut off.

    Returns:
        `(B, steps, D)`, real steps first; a clip without any real step stays without.
    """
    sequence = sequence.compacted().zeroed()
    weights = _overlap(sequence.lengths, sequence.mask.shape[1], lengths, steps)  # (B, G, T)
    mask = torch.arange(steps, device=lengths.device) < lengths.unsqueeze(-1)
    mask = mask & sequence.present.unsqueeze(-1)
    return ModalitySequence(torch.bmm(weights.to(sequence.values.dtype), sequence.values), mask).zeroed()


def _overlap(lengths: Tensor, source: int, cells: Tensor, steps: int) -> Tensor:
    """`(B, steps, source)`: the share of each grid cell that each source step fills; rows sum to 1, or to 0."""
    width = (lengths / cells.clamp(min=1)).clamp(min=1e-9)[:, None, None]
    cell = torch.arange(steps, device=lengths.device)[None, :, None] * width  # (B, G, 1)
    step = torch.arange(source, device=lengths.device)[None, None, :]
    shared = torch.minimum(cell + width, step + 1.0) - torch.maximum(cell, step.to(cell.dtype))
    return (shared.clamp(min=0) / width) * (lengths > 0)[:, None, None]
