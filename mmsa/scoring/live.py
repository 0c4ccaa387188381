"""Scoring what happens now: a camera, a stream, or a file played in real time, window after window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mmsa.errors import UsageError
from mmsa.scoring.results import WindowScore, number
from mmsa.scoring.scorer import Scorer
from mmsa.scoring.timeline import Timeline, sliding

if TYPE_CHECKING:
    from extractors import LiveCounts, LiveSource

SCHEMA = "mmsa.live/1"
USUAL_WINDOW_SECONDS = 5.0
"""Length of windows where neither the user nor the model says any."""


@dataclass(frozen=True)
class LiveScore:
    """One window, as soon as it is scored.

    Attributes:
        window: its scores; nothing is smoothed, as that would need what comes after.
        latency_seconds: from when the window's end reached this machine to when it was scored.
        counts: what was dropped so far.
    """

    window: WindowScore
    latency_seconds: float
    counts: LiveCounts

    def to_dict(self) -> dict[str, Any]:
        """A row of schema `mmsa.live/1` with the event `window`."""
        row = {key: value for key, value in self.window.to_dict().items() if key not in ("smoothed", "text", "speaker")}
        late = {"latency_seconds": round(self.latency_seconds, 3)}
        return _event("window") | row | late | {"dropped": _counts(self.counts)}


class LiveSummary:
    """What a session was, in memory that does not grow with it."""

    def __init__(self) -> None:
        self.windows = self.scored_windows = 0
        self.most_latency_seconds = 0.0
        self._latency = 0.0
        self._values: dict[str, float] = {}
        self._shares: dict[str, dict[str, int]] = {}

    def add(self, score: LiveScore) -> None:
        """Count a window."""
        self.windows += 1
        self._latency += score.latency_seconds
        self.most_latency_seconds = max(self.most_latency_seconds, score.latency_seconds)
        self.scored_windows += bool(score.window.scores)
        for name, task in score.window.scores.items():
            if task.value is not None:
                self._values[name] = self._values.get(name, 0.0) + task.value
            held = task.labels if task.labels is not None else (task.label,) if task.label is not None else ()
            for label in held:
                shares = self._shares.setdefault(name, {})
                shares[label] = shares.get(label, 0) + 1

    @property
    def mean_latency_seconds(self) -> float:
        """Over all windows; 0 without any."""
        return self._latency / self.windows if self.windows else 0.0

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """By task: the mean of a regression task, else the share of windows by label."""
        count = self.scored_windows
        means = {name: {"mean": number(total / count)} for name, total in self._values.items()}
        return means | {
            name: {"shares": {label: number(times / count) for label, times in shares.items()}}
            for name, shares in self._shares.items()
        }


class LiveScoring:
    """Iterates over `LiveScore`s while they come. Leaving the loop ends all reading.

    Args:
        scorer: the model.
        source: what to watch.
        window_seconds: length of windows; None is the median length of the clips that the model was trained on.
        hop_seconds: from one window's start to the next; None is half a window.
        max_latency_seconds: how late a window may be before a newer one is preferred.
        seconds: stop after this much; None goes on.
        tries: how often in a row to reach a broken source again.

    Attributes:
        timeline: windows as they are in force.
        summary: of the windows so far.

    Raises:
        UsageError: options that cannot be, or a source that cannot be opened or has nothing for this model.
    """

    def __init__(
        self,
        scorer: Scorer,
        source: LiveSource,
        *,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        max_latency_seconds: float = 2.0,
        seconds: float | None = None,
        tries: int = 5,
    ) -> None:
        import extractors as ex

        if window_seconds is None:
            clips = scorer.clip_seconds
            window_seconds = USUAL_WINDOW_SECONDS if clips is None else round(clips[1], 1) or USUAL_WINDOW_SECONDS
        self.timeline = Timeline(window_seconds, hop_seconds)
        if not max_latency_seconds > 0:
            raise UsageError(f"max_latency_seconds must be above 0, not {max_latency_seconds}")
        if seconds is not None and not seconds > 0:
            raise UsageError(f"seconds must be above 0, not {seconds}")
        self.source, self._scorer, self._max_latency = source, scorer, max_latency_seconds
        self.summary = LiveSummary()
        try:
            source.check()
            # A camera does not wait until libraries are loaded: everything runs once before it is opened.
            scorer.score_window(ex.Window(0, 0.0, 1.0, ex.warm_up(scorer.extractors)))
            self._reader = ex.watch(
                source,
                scorer.extractors,
                sliding(self.timeline),
                max_latency_seconds=max_latency_seconds,
                seconds=seconds,
                tries=tries,
            )
        except ex.MediaError as error:
            raise UsageError(str(error)) from error

    def __iter__(self) -> Iterator[LiveScore]:
        for window in self._reader:
            found = self._scorer.score_window(window)
            score = LiveScore(found, self._reader.latency_seconds(window), self._reader.counts)
            self.summary.add(score)
            yield score

    def close(self) -> None:
        """Stop reading; safe to call twice."""
        self._reader.close()

    @property
    def counts(self) -> LiveCounts:
        """What was dropped so far."""
        return self._reader.counts

    def begin_row(self) -> dict[str, Any]:
        """The first row of a session."""
        options = {
            "window_seconds": self.timeline.window_seconds,
            "hop_seconds": self.timeline.hop_seconds,
            "max_latency_seconds": self._max_latency,
        }
        return _event("begin") | {"source": self.source.label, "model": dict(self._scorer.model), "options": options}

    def end_row(self, reason: str) -> dict[str, Any]:
        """The last row of a session.

        Args:
            reason: why it ended.
        """
        summary = self.summary
        return _event("end") | {
            "reason": reason,
            "windows": summary.windows,
            "scored_windows": summary.scored_windows,
            "mean_latency_seconds": round(summary.mean_latency_seconds, 3),
            "most_latency_seconds": round(summary.most_latency_seconds, 3),
            "tasks": summary.tasks,
            "dropped": _counts(self.counts),
        }


def _event(name: str) -> dict[str, Any]:
    return {"schema": SCHEMA, "event": name, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}


def _counts(counts: LiveCounts) -> dict[str, Any]:
    found = asdict(counts)
    del found["windows"]
    return {key: round(value, 3) for key, value in found.items()}
