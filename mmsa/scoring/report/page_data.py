"""A result in the compact form that its page carries: columns instead of rows, four decimals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mmsa.scoring.colours import class_colours
from mmsa.scoring.lines import Line
from mmsa.scoring.results import ModalityScore, Score, TaskScore

DECIMALS = 4


def page_data(score: Score, lines: Sequence[Line]) -> dict[str, Any]:
    """What the page's program draws.

    Every list under `windows`, `tasks` and `modalities` has one entry per window, None where the window has nothing;
    texts that come often are places in a table. A window costs about 600 bytes with two tasks and three modalities.

    Args:
        score: without an error.
        lines: what is said.

    Returns:
        Plain JSON values: `start`, `end` (what the timeline spans, in seconds), `windows`, `tasks`, `modalities`,
        `reasons`, `speakers`, `lines`.
    """
    windows = score.windows
    reasons, speakers = _Table(), _Table()
    scored = next((window for window in windows if window.scores), None)
    names = list(scored.scores) if scored is not None else []
    keys = list(windows[0].modalities) if windows else []
    end = max((window.end_seconds for window in windows), default=0.0)
    return {
        "start": _digits(score.start_seconds or 0.0),
        "end": _digits(max(end, (score.start_seconds or 0.0) + (score.duration_seconds or 0.0))),
        "windows": {
            "number": [window.number for window in windows],
            "start": [_digits(window.start_seconds) for window in windows],
            "end": [_digits(window.end_seconds) for window in windows],
            "speaker": [speakers.place(window.speaker) for window in windows],
        },
        "tasks": [
            _task(name, [w.scores.get(name) for w in windows], [w.smoothed.get(name) for w in windows])
            for name in names
        ],
        "modalities": [
            _modality(key, [window.modalities.get(key) for window in windows], names, reasons) for key in keys
        ],
        "lines": [
            [_digits(one.start_seconds), _digits(one.end_seconds), speakers.place(one.speaker), one.text]
            for one in lines
        ],
        "reasons": reasons.texts,
        "speakers": speakers.texts,
    }


class _Table:
    """Texts by place."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, text: str | None) -> int | None:
        if text is None:
            return None
        if text not in self._places:
            self._places[text] = len(self.texts)
            self.texts.append(text)
        return self._places[text]


def _digits(value: float | None) -> float | None:
    if value is None:
        return None
    short = round(value, DECIMALS)
    return int(short) if short == int(short) else short


def _task(name: str, raw: Sequence[TaskScore | None], smoothed: Sequence[TaskScore | None]) -> dict[str, Any]:
    first = next(one for one in raw if one is not None)
    if first.label is None and first.labels is None:
        return {
            "name": name,
            "kind": "value",
            "raw": [_digits(one.value) if one else None for one in raw],
            "smoothed": [_digits(one.value) if one else None for one in smoothed],
            "low": [_digits(one.interval[0]) if one and one.interval else None for one in raw],
            "high": [_digits(one.interval[1]) if one and one.interval else None for one in raw],
        }
    classes = list(first.probabilities)
    return {
        "name": name,
        "kind": "class" if first.labels is None else "labels",
        "classes": classes,
        "colours": class_colours(classes),
        "raw": [_share(raw, one) for one in classes],
        "smoothed": [_share(smoothed, one) for one in classes],
    }


def _share(scores: Iterable[TaskScore | None], name: str) -> list[float | None]:
    return [_digits(one.probabilities[name]) if one else None for one in scores]


def _modality(key: str, found: Sequence[ModalityScore | None], names: Sequence[str], reasons: _Table) -> dict[str, Any]:
    return {
        "name": key,
        "present": [int(one is not None and one.present) for one in found],
        "reason": [reasons.place(one.reason or "no data") if one and not one.present else None for one in found],
        "steps": [one.steps if one else 0 for one in found],
        "weight": [_digits(one.weight) if one else None for one in found],
        "moved": {name: [_digits(one.contribution.get(name)) if one else None for one in found] for name in names},
        "alone": {name: [_alone(one.scores.get(name)) if one else None for one in found] for name in names},
    }


def _alone(score: TaskScore | None) -> Any:
    """A value, or the names that it holds with their probabilities."""
    if score is None:
        return None
    if score.label is None and score.labels is None:
        return _digits(score.value)
    held = score.labels if score.labels is not None else (score.label or "",)
    return [[name, _digits(score.probabilities[name])] for name in held]
