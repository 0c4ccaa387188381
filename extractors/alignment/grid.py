"""One grid for all modalities: each cell holds what overlaps it, weighted by how long it does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence

Spans = NDArray[np.float64]
"""`(N, 2)` start and end in seconds."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """Several modalities on one grid.

    Attributes:
        times: `(N, 2)` the cells, seconds.
        values: per modality `(N, D)` float32; zeros where nothing overlaps the cell.
        present: per modality `(N,)` bool, True where something does. A zero row is data only where this is True.
    """

    times: Spans
    values: dict[str, NDArray[np.float32]]
    present: dict[str, NDArray[np.bool_]]

    def sequence(self, modality: str, names: tuple[str, ...]) -> FeatureSequence:
        """One modality as a sequence again, its empty cells left out as gaps."""
        kept = self.present[modality]
        return FeatureSequence(self.values[modality][kept], self.times[kept], names)


def regular_grid(start_seconds: float, end_seconds: float, cells_per_second: float) -> Spans:
    """Cells of one length; the last is cut at the end.

    Raises:
        ValueError: the end lies before the start, or the rate is not positive.

    Example:
        >>> regular_grid(0.0, 1.25, 2.0).tolist()
        [[0.0, 0.5], [0.5, 1.0], [1.0, 1.25]]
    """
    if not (math.isfinite(start_seconds) and start_seconds <= end_seconds < math.inf):
        raise ValueError(f"a grid needs a finite start <= end, not {start_seconds} to {end_seconds}")
    if not (math.isfinite(cells_per_second) and cells_per_second > 0):
        raise ValueError(f"cells_per_second must be positive, not {cells_per_second}")
    # Rounding must not add a cell of a billionth of a second.
    count = math.ceil((end_seconds - start_seconds) * cells_per_second - 1e-9)
    edges = start_seconds + np.arange(count + 1) / cells_per_second
    edges[-1] = end_seconds
    return np.stack([edges[:-1], edges[1:]], axis=1)


def align(sequences: Mapping[str, FeatureSequence], times: Spans) -> Aligned:
    """Pool every modality onto the cells of a grid: a regular one, or the times of the words.

    A cell's value is the mean of the steps that overlap it, each weighted by how long it does. Steps without length (a
    still image, a word without an end) count where no step with length does, in the cell that holds their instant; and
    a cell without length takes the step that holds its own. Starts belong to cells and steps, ends do not. A cell that
    nothing overlaps is absent, not zero.

    Args:
        sequences: by modality.
        times: the cells; they may overlap and leave gaps, in any order.

    Raises:
        ValueError: the cells are not `(N, 2)`, not finite, or one ends before it starts.
    """
    cells = np.asarray(times, np.float64)
    if cells.ndim != 2 or cells.shape[1] != 2:
        raise ValueError(f"times must be (N, 2), not {cells.shape}")
    if not np.isfinite(cells).all() or (cells[:, 1] < cells[:, 0]).any():
        raise ValueError("times must be finite, and no cell may end before it starts")
    values, present = {}, {}
    for key, sequence in sequences.items():
        values[key], present[key] = _pool(sequence, cells)
    return Aligned(cells, values, present)


def _pool(sequence: FeatureSequence, cells: Spans) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    from scipy.sparse import csr_array

    pooled = np.zeros((len(cells), sequence.dim), np.float64)
    if not len(sequence) or not len(cells):
        return pooled.astype(np.float32), np.zeros(len(cells), np.bool_)
    start, end = sequence.times[:, 0], sequence.times[:, 1]
    # Steps are sorted by start. None before `first` reaches into the cell, and none from `after` on has begun.
    first = np.searchsorted(np.maximum.accumulate(end), cells[:, 0], side="left")
    after = np.maximum(first, np.searchsorted(start, cells[:, 1], side="right"))
    counts = after - first
    offsets = np.concatenate([[0], np.cumsum(counts)])
    cell = np.repeat(np.arange(len(cells)), counts)
    step = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - first, counts)
    overlap = np.minimum(cells[cell, 1], end[step]) - np.maximum(cells[cell, 0], start[step])
    weight = np.maximum(overlap, 0.0)
    total = np.bincount(cell, weight, len(cells))
    # Instants within cells, and cells without length: a step that only touches a cell does not overlap it.
    low, high = cells[cell, 0], cells[cell, 1]
    inside = np.where(start[step] == end[step], (start[step] < high) | (low == high), (low == high) & (low < end[step]))
    weight = np.where(inside & (overlap >= 0) & (total[cell] == 0), 1.0, weight)
    total = np.bincount(cell, weight, len(cells))
    share = weight / np.where(total > 0, total, 1.0)[cell]
    matrix = csr_array((share, step, offsets), shape=(len(cells), len(sequence)))
    return (matrix @ sequence.values.astype(np.float64)).astype(np.float32), total > 0
