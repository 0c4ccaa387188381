"""Which window an instant belongs to, where windows overlap."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mmsa.scoring.results import WindowScore


def own_stretches(windows: Sequence[WindowScore]) -> list[tuple[float, float]]:
    """Start and end of the time that each window stands for.

    Where windows overlap, one ends and the next begins in the middle of what they share, so that every instant belongs
    to one at most.

    Args:
        windows: by start.

    Example:
        >>> own_stretches([WindowScore(0, 0.0, 10.0), WindowScore(1, 5.0, 15.0), WindowScore(2, 20.0, 30.0)])
        [(0.0, 7.5), (7.5, 15.0), (20.0, 30.0)]
    """
    starts = [window.start_seconds for window in windows]
    ends = [window.end_seconds for window in windows]
    for place in range(len(windows) - 1):
        following = windows[place + 1]
        if windows[place].end_seconds > following.start_seconds:
            ends[place] = min((windows[place].end_seconds + following.start_seconds) / 2, following.end_seconds)
        ends[place] = max(ends[place], starts[place])
        if ends[place] > following.start_seconds:
            starts[place + 1] = ends[place]
    return [(start, max(start, end)) for start, end in zip(starts, ends, strict=True)]


class Finder:
    """Finds the window of an instant.

    Args:
        windows: by start.

    Attributes:
        stretches: what `own_stretches` says.
    """

    def __init__(self, windows: Sequence[WindowScore]) -> None:
        self.stretches = own_stretches(windows)
        self._starts = [start for start, _ in self.stretches]

    def at(self, seconds: float) -> int | None:
        """The place of the window that stands for an instant, or None; a file's only window stands for all of it."""
        if len(self.stretches) == 1:
            return 0
        place = bisect_right(self._starts, seconds + 1e-6) - 1
        if place < 0:
            return None
        last = place == len(self.stretches) - 1
        return place if seconds < self.stretches[place][1] + (0.3 if last else 0.0) else None
