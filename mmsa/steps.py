"""The steps of one modality as a tensor that batches are gathered from by index."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion import ModalitySequence
from mmsa.features import FeatureTable

BLOCK_BYTES = 1 << 21
"""How much of a table is read at a time where all of it is read."""


class Steps:
    """All steps of a feature table, and how padded batches of them are made.

    On the CPU, and for tables beyond the budget of a device, the tensor is the memory map itself: nothing is copied,
    processes share the pages, and of a table larger than memory only what batches need is read. On a device the
    tensor is a copy that stays there.

    Args:
        table: the features.
        device: where batches are wanted.
        resident: whether the table is copied to the device; of no effect on the CPU.
    """

    def __init__(self, table: FeatureTable, device: torch.device, *, resident: bool = True) -> None:
        self.device = device
        self.dim = len(table.names)
        values = as_tensor(table.values)
        self.values = values.to(device) if resident else values
        self.present = None if table.present is None else as_tensor(table.present).to(self.values.device)

    def gather(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> ModalitySequence:
        """One padded batch.

        Args:
            starts: `(B,)`, each clip's first row.
            lengths: `(B,)`, each clip's number of rows.

        Returns:
            `(B, T, D)` float32 on the device, with zeros after each clip's steps; `T` is at least 1. Empty cells of a
            table on a grid are masked.
        """
        longest = max(1, int(lengths.max()))
        where = torch.from_numpy(np.stack([starts, lengths])).to(self.values.device).unsqueeze(2)  # (2, B, 1)
        place = torch.arange(longest, device=where.device)
        mask = place < where[1]
        if not len(self.values):
            return ModalitySequence(torch.zeros(len(starts), longest, self.dim), mask).to(self.device)
        rows = (where[0] + place).masked_fill_(~mask, 0)
        if self.present is not None:
            mask = mask & self.present[rows]
        values = self.values.index_select(0, rows.view(-1)).view(len(starts), longest, self.dim).to(torch.float32)
        # As whole numbers: as floats, a NaN in the row that padding is gathered from would stay one; and several
        # times quicker than masked_fill on the CPU.
        values.view(torch.int32).mul_(mask.unsqueeze(-1))
        return ModalitySequence(self._moved(values), self._moved(mask))

    def _moved(self, tensor: Tensor) -> Tensor:
        if tensor.device == self.device:
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


def open_steps(
    tables: Mapping[str, FeatureTable], device: torch.device, resident_mb: int | None = None
) -> dict[str, Steps]:
    """The tables as tensors, the smallest ones first on the device as long as they fit its budget.

    Args:
        tables: by modality.
        device: where batches are wanted.
        resident_mb: the budget in megabytes; None is half of what is free on a CUDA device.
    """
    if resident_mb is not None:
        left = resident_mb * 10**6
    else:
        left = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 0
    opened = {}
    for key, table in sorted(tables.items(), key=lambda item: item[1].values.nbytes):
        left -= table.values.nbytes
        opened[key] = Steps(table, device, resident=left >= 0)
    return opened


def as_tensor(values: NDArray[Any]) -> Tensor:
    """An array, memory-mapped or not, as a tensor over the same memory, which is never written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch cannot mark a tensor as read-only, and says so
        return torch.from_numpy(np.asarray(values))


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the real steps of some clips.

    Attributes:
        count: number of steps.
        total: `(D,)` float64.
        squares: `(D,)` float64.
    """

    count: int
    total: Tensor
    squares: Tensor


def moments(table: FeatureTable, clips: NDArray[np.int64]) -> Moments:
    """Sum up the steps of these clips, reading the table once, in order, in blocks of bounded size.

    Args:
        table: the features.
        clips: `(N,)`, positions in the corpus, ascending.
    """
    dim = len(table.names)
    total, squares = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    count = 0
    values = as_tensor(table.values)
    for start, end in _blocks(table.offsets, clips, max(1, BLOCK_BYTES // (8 * dim))):
        block = values[start:end].double()
        total += block.sum(dim=0)
        squares += block.square_().sum(dim=0)
        # Empty cells are zeros: they add nothing to the sums.
        count += end - start if table.present is None else int(table.present[start:end].sum())
    return Moments(count, total, squares)


def _blocks(offsets: NDArray[np.int64], clips: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Ranges of at most `most` rows that hold the clips' steps and no others; neighbouring clips share one."""
    if not len(clips):
        return []
    starts, ends = offsets[clips], offsets[clips + 1]
    gap = np.flatnonzero(starts[1:] != ends[:-1])
    firsts, lasts = starts[np.r_[0, gap + 1]], ends[np.r_[gap, len(clips) - 1]]
    return [
        (start, min(start + most, int(last)))
        for first, last in zip(firsts, lasts, strict=True)
        for start in range(int(first), int(last), most)
    ]


def clips_not_finite(table: FeatureTable, clips: NDArray[np.int64]) -> list[int]:
    """Which of these clips have a step with NaN or an infinite value; positions in the corpus."""
    found = []
    for clip in clips:
        start, end = table.offsets[clip], table.offsets[clip + 1]
        if not np.isfinite(table.values[start:end]).all():
            found.append(int(clip))
    return found
