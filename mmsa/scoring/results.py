"""What scoring gives: typed results, and the rows of schema `mmsa.score/2` that they are written as and read from.

One file (or one segment of a file that a table names) is one `Score`:

    Score ─ windows: one WindowScore for a clip scored as a whole, several along a timeline
          │   └ scores[task]: TaskScore (value + interval, or label + probabilities, or labels + probabilities)
          │   └ smoothed[task]: TaskScore, the same averaged with the windows around it
          │   └ modalities[key]: ModalityScore (present or why not, weight, contribution, what it says alone)
          └ summary: Summary over the windows (mean, spread, moments, share of time per class, coverage)

`Score.to_dict` is one JSON line, `Score.from_dict` reads it back to an equal result. Numbers carry seven significant
digits, which is what float32 holds, so that a row is a third shorter and reads back exactly. docs/scoring.md names
every field; `mmsa/scoring/schema.json` is the same for machines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "mmsa.score/2"


def number(value: float) -> float:
    """A float32's digits as a Python float.

    Raises:
        ValueError: it is not finite, which no row may hold.
    """
    if not math.isfinite(value):
        raise ValueError("the model's output is not a finite number")
    return float(f"{float(value):.7g}")


@dataclass(frozen=True)
class TaskScore:
    """What was predicted for one task.

    Attributes:
        value: the score of a regression task, clipped to the task's range; otherwise None.
        label: the most probable class of a classification task; otherwise None.
        labels: the classes of a multi-label task with a probability above one half; otherwise None.
        probabilities: by class, summing to 1 for classification; empty for regression.
        interval: for a regression task of a calibrated model, from where to where the true score lies for the share
            of clips that the calibration says (split-conformal); otherwise None.
    """

    value: float | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        if self.labels is not None:
            return {"labels": list(self.labels), "probabilities": dict(self.probabilities)}
        if self.label is not None:
            return {"label": self.label, "probabilities": dict(self.probabilities)}
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskScore:
        """Read what `to_dict` wrote."""
        interval, labels = data.get("interval"), data.get("labels")
        return cls(
            value=data.get("value"),
            label=data.get("label"),
            labels=None if labels is None else tuple(labels),
            probabilities=dict(data.get("probabilities", {})),
            interval=None if interval is None else (interval[0], interval[1]),
        )


@dataclass(frozen=True)
class ModalityScore:
    """What one modality said.

    Attributes:
        present: whether the stretch of media has it.
        reason: why it is missing, or None.
        steps: number of feature steps.
        weight: its share in the fused prediction, in [0, 1], where the head knows; else None.
        contribution: by task, how far it moved the fused score (or the probability of the most probable class) from
            the model's mean on its training split: exact Shapley values, which sum to the difference over modalities.
            Of the model's own probabilities, before calibration.
        scores: the prediction from this modality alone, by task; empty when missing. Without intervals: these hold
            for the fused prediction.
    """

    present: bool
    reason: str | None
    steps: int
    weight: float | None
    contribution: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, TaskScore] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "present": self.present,
            "reason": self.reason,
            "steps": self.steps,
            "weight": self.weight,
            "contribution": dict(self.contribution),
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModalityScore:
        """Read what `to_dict` wrote."""
        return cls(
            present=data["present"],
            reason=data["reason"],
            steps=data["steps"],
            weight=data["weight"],
            contribution=dict(data["contribution"]),
            scores=_tasks(data["scores"]),
        )


@dataclass(frozen=True)
class WindowScore:
    """One stretch of a file.

    Attributes:
        number: from 0, in order of time.
        start_seconds: where it starts on the media's clock.
        end_seconds: where it ends.
        scores: fused prediction by task; empty where every modality is missing.
        smoothed: the same, averaged with the windows around (see `mmsa.scoring.smoothing`); as `scores` for a clip
            scored as a whole. Without intervals, which hold for single predictions.
        modalities: what each modality said.
        text: what is said in it, where there is a transcript; else None.
        speaker: who speaks, where windows are turns of speakers; else None.
        notes: oddities of this window alone.
    """

    number: int
    start_seconds: float
    end_seconds: float
    scores: Mapping[str, TaskScore] = field(default_factory=dict)
    smoothed: Mapping[str, TaskScore] = field(default_factory=dict)
    modalities: Mapping[str, ModalityScore] = field(default_factory=dict)
    text: str | None = None
    speaker: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def middle_seconds(self) -> float:
        """The instant that it stands for."""
        return (self.start_seconds + self.end_seconds) / 2

    @property
    def missing(self) -> dict[str, str]:
        """Why, by missing modality."""
        return {key: one.reason or "no data" for key, one in self.modalities.items() if not one.present}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "number": self.number,
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "smoothed": {name: score.to_dict() for name, score in self.smoothed.items()},
            "modalities": {key: value.to_dict() for key, value in self.modalities.items()},
            "missing": self.missing,
            "text": self.text,
            "speaker": self.speaker,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WindowScore:
        """Read what `to_dict` wrote."""
        return cls(
            number=data["number"],
            start_seconds=data["start_seconds"],
            end_seconds=data["end_seconds"],
            scores=_tasks(data["scores"]),
            smoothed=_tasks(data["smoothed"]),
            modalities={key: ModalityScore.from_dict(value) for key, value in data["modalities"].items()},
            text=data["text"],
            speaker=data["speaker"],
            notes=tuple(data["notes"]),
        )


@dataclass(frozen=True)
class Moment:
    """A value and when it was.

    Attributes:
        seconds: the middle of the window.
        value: a score, or a probability.
        window: the window's number.
    """

    seconds: float
    value: float
    window: int


@dataclass(frozen=True)
class TaskSummary:
    """One task over a whole file; each window counts by its length.

    Attributes:
        mean: of a regression task's values; None for others.
        std: their standard deviation (the population's).
        lowest: the window with the lowest value, raw.
        highest: the window with the highest value, raw.
        most_negative: the lowest point of the smoothed timeline.
        most_positive: its highest point.
        probabilities: mean by class; empty for regression.
        shares: share of the scored time by label of the smoothed timeline; for a multi-label task the share in which
            each class holds.
        peaks: by class, where its smoothed probability is highest.
    """

    mean: float | None = None
    std: float | None = None
    lowest: Moment | None = None
    highest: Moment | None = None
    most_negative: Moment | None = None
    most_positive: Moment | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    peaks: Mapping[str, Moment] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; only what the kind of task has."""
        if self.mean is None:
            peaks = {name: vars(moment) for name, moment in self.peaks.items()}
            return {"probabilities": dict(self.probabilities), "shares": dict(self.shares), "peaks": peaks}
        moments = {name: getattr(self, name) for name in _MOMENTS}
        return {"mean": self.mean, "std": self.std} | {k: vars(v) for k, v in moments.items() if v is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskSummary:
        """Read what `to_dict` wrote."""
        if "mean" not in data:
            peaks = {name: Moment(**moment) for name, moment in data["peaks"].items()}
            return cls(probabilities=dict(data["probabilities"]), shares=dict(data["shares"]), peaks=peaks)
        moments: dict[str, Any] = {name: Moment(**data[name]) for name in _MOMENTS if name in data}
        return cls(data["mean"], data["std"], **moments)


_MOMENTS = ("lowest", "highest", "most_negative", "most_positive")


@dataclass(frozen=True)
class Summary:
    """A whole file in a few numbers.

    Attributes:
        tasks: by task.
        coverage: by modality, the share of the windows' time in which it is present.
        windows: how many there are.
        scored_windows: how many of them had any modality.
    """

    tasks: Mapping[str, TaskSummary]
    coverage: Mapping[str, float]
    windows: int
    scored_windows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "tasks": {name: task.to_dict() for name, task in self.tasks.items()},
            "coverage": dict(self.coverage),
            "windows": self.windows,
            "scored_windows": self.scored_windows,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Summary:
        """Read what `to_dict` wrote."""
        tasks = {name: TaskSummary.from_dict(task) for name, task in data["tasks"].items()}
        return cls(tasks, dict(data["coverage"]), data["windows"], data["scored_windows"])


@dataclass(frozen=True)
class Score:
    """The result for one file, or for one segment that a table of inputs names.

    Attributes:
        path: as given.
        id: a name that a table of inputs gave it; else None.
        start_seconds: where the segment starts; None is the file's beginning.
        end_seconds: where it ends; None is the file's end.
        duration_seconds: how much media was scored; 0 for a still image; None on an error.
        windows: along time; one where the clip was scored as a whole, none on an error.
        summary: over the windows; None on an error.
        notes: oddities of the file (a truncated stream, say) and of how it was scored.
        error: why the file could not be scored, or None.
        extra: other columns of the table of inputs, carried along.
        model: which model it was: digest, corpus, note.
        options: what the numbers depend on beside the file and the model (windows, smoothing).
        key: of this file's content, segment, model and options; "" outside of an append-only file.
    """

    path: str
    id: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    duration_seconds: float | None = None
    windows: tuple[WindowScore, ...] = ()
    summary: Summary | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    @property
    def scores(self) -> Mapping[str, TaskScore]:
        """Fused prediction by task of a clip scored as a whole; empty for a timeline (see `summary`) or an error."""
        return self.windows[0].scores if len(self.windows) == 1 else {}

    @property
    def modalities(self) -> Mapping[str, ModalityScore]:
        """What each modality said of a clip scored as a whole; empty for a timeline or an error."""
        return self.windows[0].modalities if len(self.windows) == 1 else {}

    def to_dict(self) -> dict[str, Any]:
        """One row of schema `mmsa.score/2`; an error row has `error` and neither windows nor summary."""
        row: dict[str, Any] = {
            "schema": SCHEMA,
            "key": self.key,
            "path": self.path,
            "id": self.id,
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "model": dict(self.model),
            "options": dict(self.options),
            "extra": dict(self.extra),
        }
        if self.error is not None:
            return {**row, "error": self.error}
        return {
            **row,
            "duration_seconds": self.duration_seconds,
            "summary": None if self.summary is None else self.summary.to_dict(),
            "windows": [window.to_dict() for window in self.windows],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Score:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: a row of another schema.
        """
        if row.get("schema") != SCHEMA:
            raise ValueError(f"this is a row of schema {row.get('schema')!r}, but {SCHEMA!r} is read here")
        kept = {name: row[name] for name in _PLAIN if name in row}
        summary = row.get("summary")
        return cls(
            **kept,
            windows=tuple(WindowScore.from_dict(window) for window in row.get("windows", ())),
            summary=None if summary is None else Summary.from_dict(summary),
            notes=tuple(row.get("notes", ())),
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per window, one column per number; the columns are those of the CSV output (docs/scoring.md)."""
        from mmsa.scoring.exports import frame

        return frame([self])


_PLAIN = [one.name for one in fields(Score) if one.name not in ("windows", "summary", "notes")]


def _tasks(data: Mapping[str, Any]) -> dict[str, TaskScore]:
    return {name: TaskScore.from_dict(score) for name, score in data.items()}
