"""Which clips share a batch: shuffled, or also of like length so that little is padded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]

JITTER = 0.1
"""How far a clip's length is blurred, up or down, before clips are sorted by it."""

CPU_PART_STEPS = 4096
"""Padded steps, over all modalities, beyond which a CPU only loses by computing more at once."""


def shuffled_batches(steps: Index, size: int, generator: np.random.Generator, *, bucketing: bool) -> list[Index]:
    """Every clip once, in random batches.

    With bucketing, clips are sorted by their number of steps, each blurred by up to `JITTER`, and cut into batches
    whose order is shuffled. So the clips of a batch are about equally long, and yet a clip meets others in every
    epoch: cutting random stretches of the corpus into sorted batches instead pads more for the same variety, and in a
    small corpus makes the same batches in every epoch.

    Args:
        steps: `(N, M)`, steps of each clip in each modality.
        size: clips per batch; one batch holds the rest.
        generator: decides the order; the same state gives the same batches.
        bucketing: whether lengths count.

    Returns:
        Positions of the clips of each batch.
    """
    count = len(steps)
    order = generator.permutation(count)
    if not bucketing:
        return cut(order, size)
    blur = 1 + JITTER * generator.uniform(-1, 1, count)
    order = order[np.argsort(((steps.sum(axis=1) + 1) * blur)[order], kind="stable")]
    # The batch that holds the rest may stand anywhere: were it always that of the longest clips, these few would
    # count more in every epoch.
    sizes = [size] * (count // size)
    if count % size:
        sizes.insert(int(generator.integers(len(sizes) + 1)), count % size)
    batches = np.split(order, np.cumsum(sizes)[:-1])
    return [batches[i] for i in generator.permutation(len(batches))]


def sorted_batches(steps: Index, size: int) -> list[Index]:
    """Every clip once, in batches of like length: for evaluation, where order does not matter.

    Longest first, so that what does not fit into memory fails at once.
    """
    return cut(np.argsort(-steps.sum(axis=1), kind="stable"), size)


def cut_parts(steps: Index, batch: Index, most: int) -> list[Index]:
    """A batch in parts that are small enough each, the clips of a part being of like length.

    What a step computes and keeps grows with the padded steps of what is computed at once. So parts bound the memory,
    whatever the longest clip of a batch, and spare padding within the batch.

    Args:
        steps: `(N, M)`, steps of each clip in each modality.
        batch: positions of its clips.
        most: padded steps of a part, over all modalities; a clip longer than that is a part of its own.

    Returns:
        The batch itself where it is small enough, else positions of the clips of each part, longest first.
    """
    if len(batch) * steps[batch].max(axis=0).sum() <= most:
        return [batch]
    order = batch[np.argsort(-steps[batch].sum(axis=1), kind="stable")]
    parts: list[Index] = []
    start, longest = 0, np.zeros(steps.shape[1], np.int64)
    for place, clip in enumerate(order):
        longest = np.maximum(longest, steps[clip])
        if place > start and (place - start + 1) * longest.sum() > most:
            parts.append(order[start:place])
            start, longest = place, steps[clip]
    return [*parts, order[start:]]


def cut(order: Index, size: int) -> list[Index]:
    """Batches of `size` in this order; the last holds the rest."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def padding_share(steps: Index, batches: list[Index]) -> float:
    """The share of padded steps in what batches hold, over all modalities."""
    held = sum(len(batch) * int(steps[batch].max(axis=0).clip(min=1).sum()) for batch in batches)
    real = sum(int(steps[batch].sum()) for batch in batches)
    return 1 - real / held if held else 0.0
