"""What is longer than a network takes, cut into windows that overlap by half and joined again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of some clips.

    Attributes:
        clips: `(N,)`, which clip each is of.
        firsts: `(N,)`, its first step.
        counts: `(N,)`, how many steps it has.
    """

    clips: Index
    firsts: Index
    counts: Index

    def __len__(self) -> int:
        return len(self.clips)

    def only(self, chosen: Index | slice) -> Windows:
        """Some of them."""
        return Windows(self.clips[chosen], self.firsts[chosen], self.counts[chosen])

    def places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """`(N, W)`: the step of its clip at each place of each window, and whether there is one."""
        place = torch.arange(int(self.counts.max()), device=device)
        counts, firsts = (torch.from_numpy(values).to(device).unsqueeze(1) for values in (self.counts, self.firsts))
        real = place < counts
        return (place + firsts).masked_fill(~real, 0), real


def cut(lengths: Index, most: int, multiple: int = 1) -> Windows:
    """Windows over clips: one for a clip of at most `most` steps, else as many as it takes, overlapping by half.

    Args:
        lengths: `(R,)` steps of each clip, at least 1.
        most: steps of a window.
        multiple: windows begin at multiples of this.
    """
    hop = max(1, (most - most // 2) // multiple) * multiple
    found = []
    for clip, length in enumerate(lengths.tolist()):
        count = 1 + max(0, -(-(length - most) // hop))
        found += [(clip, number * hop, min(most, length - number * hop)) for number in range(count)]
    clips, firsts, counts = np.array(found, np.int64).reshape(-1, 3).T
    return Windows(clips, firsts, counts)


def join(states: Tensor, windows: Windows, clips: int) -> tuple[Tensor, Tensor]:
    """Put windows together: each step from the one in which it stands furthest from an inner edge.

    Args:
        states: `(N, W, D)`.
        windows: where each lies, in steps of `states`.
        clips: how many clips, `R`.

    Returns:
        `(R, T, D)` and the mask `(R, T)`.
    """
    lengths = np.zeros(clips, np.int64)
    np.maximum.at(lengths, windows.clips, windows.firsts + windows.counts)
    longest = max(1, int(lengths.max()))
    source = np.zeros((clips, longest), np.int64)
    best = np.full((clips, longest), -1.0)
    last = np.append(windows.clips[1:] != windows.clips[:-1], True)
    for number, (clip, first, count) in enumerate(zip(windows.clips, windows.firsts, windows.counts, strict=True)):
        at = np.arange(count, dtype=np.float64)
        inner = np.minimum(at if first else np.inf, np.inf if last[number] else at[::-1])
        own = slice(first, first + count)
        better = inner > best[clip, own]
        source[clip, own][better] = number * states.shape[1] + np.flatnonzero(better)
        best[clip, own] = np.maximum(best[clip, own], inner)
    index = torch.from_numpy(source).to(states.device)
    mask = torch.from_numpy(best >= 0).to(states.device)
    joined = states.flatten(0, 1).index_select(0, index.flatten()).view(clips, longest, -1)
    # Not by a product: padding is gathered from the first state, which may be NaN.
    return joined.masked_fill(~mask.unsqueeze(-1), 0.0), mask
