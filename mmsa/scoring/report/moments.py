"""What a page says in words: the peaks of a file, and what was missing in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mmsa.scoring.colours import NEGATIVE, POSITIVE, class_colours
from mmsa.scoring.results import Moment, Score, TaskSummary

MOST_PEAKS = 10
MOST_STRETCHES = 12


@dataclass(frozen=True)
class Peak:
    """A moment worth looking at.

    Attributes:
        seconds: when, on the media's clock.
        title: what it is the peak of, such as `"most positive"` or `"joy"`.
        value: as shown.
        colour: place in `mmsa.scoring.colours`.
    """

    seconds: float
    title: str
    value: str
    colour: int


@dataclass(frozen=True)
class Gap:
    """A modality that is missing somewhere.

    Attributes:
        modality: which.
        reason: why.
        share: of the windows' time.
        stretches: start and end in seconds, joined where windows touch; at most `MOST_STRETCHES` of them.
        more: how many stretches are not listed.
    """

    modality: str
    reason: str
    share: float
    stretches: tuple[tuple[float, float], ...]
    more: int = 0


def find_peaks(score: Score) -> list[Peak]:
    """The ends of each regression task and the peaks of classes that hold somewhere or come next to it, by time."""
    if score.summary is None:
        return []
    found: list[Peak] = []
    for name, task in score.summary.tasks.items():
        found += _ends(name, task) if task.mean is not None else _classes(task)
    return sorted(found[:MOST_PEAKS], key=lambda peak: peak.seconds)


def _ends(name: str, task: TaskSummary) -> Iterator[Peak]:
    low, high = task.most_negative, task.most_positive
    if low is None or high is None:
        return
    ends = [(low, name)] if low.window == high.window else [(low, f"lowest {name}"), (high, f"highest {name}")]
    for moment, title in ends:
        yield Peak(moment.seconds, title, f"{moment.value:+.2f}", POSITIVE if moment.value >= 0 else NEGATIVE)


def _classes(task: TaskSummary) -> Iterator[Peak]:
    colours = dict(zip(task.peaks, class_colours(list(task.peaks)), strict=True))
    held = [name for name in task.peaks if task.shares.get(name, 0.0) > 0]
    if not held and task.peaks:
        held = [max(task.peaks, key=lambda name: task.peaks[name].value)]
    for name in sorted(held, key=lambda one: -task.shares.get(one, 0.0)):
        moment: Moment = task.peaks[name]
        yield Peak(moment.seconds, name, f"{moment.value:.0%}", colours[name])


def find_gaps(score: Score) -> list[Gap]:
    """Every modality that is missing in some window, by reason."""
    lengths = [window.end_seconds - window.start_seconds for window in score.windows]
    if sum(lengths) <= 0:
        lengths = [1.0] * len(lengths)
    spent: dict[tuple[str, str], float] = {}
    stretches: dict[tuple[str, str], list[tuple[float, float]]] = {}
    last: dict[tuple[str, str], int] = {}
    total = sum(lengths)
    for place, (window, length) in enumerate(zip(score.windows, lengths, strict=True)):
        for key, reason in window.missing.items():
            told = (key, _without_counts(reason))
            spent[told] = spent.get(told, 0.0) + length / total
            own = stretches.setdefault(told, [])
            if own and last[told] == place - 1 and window.start_seconds <= own[-1][1] + 1e-6:
                own[-1] = (own[-1][0], max(own[-1][1], window.end_seconds))
            else:
                own.append((window.start_seconds, window.end_seconds))
            last[told] = place
    return [
        Gap(*told, spent[told], tuple(own[:MOST_STRETCHES]), max(0, len(own) - MOST_STRETCHES))
        for told, own in stretches.items()
    ]


def _without_counts(reason: str) -> str:
    """A reason such as "no face found in 50 sampled frames" is one, whatever the number of frames."""
    return re.sub(r" in \d+ sampled frames?$", "", reason)
