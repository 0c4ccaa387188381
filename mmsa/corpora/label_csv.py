"""The `label.csv` layout: the one in which CMU-MOSI, CMU-MOSEI and CH-SIMS are passed on for MMSA and MMSA-FET.

`label.csv` has the columns `video_id, clip_id, text, label, label_T, label_A, label_V, annotation, mode`; the clips
lie in `Raw/<video_id>/<clip_id>.mp4`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.corpora.rows import Row, read_rows
from mmsa.errors import UsageError
from mmsa.tasks import Label, MultiLabel, Regression, Task

COLUMNS = ("video_id", "clip_id", "text", "label", "mode")
MODES: dict[str, Split] = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}
"""Split by what the column `mode` says; the official tables say `train`, `valid` and `test`."""

UNIMODAL = {"sentiment_text": "label_T", "sentiment_audio": "label_A", "sentiment_vision": "label_V"}
"""Column by task: what one modality alone expresses, as raters who had only this modality judged it."""


def read_label_csv(
    name: str, table: Path, sentiment: Regression, *, unimodal: bool = False, emotions: MultiLabel | None = None
) -> Corpus:
    """Read a table in the `label.csv` layout.

    A clip's id is `<video_id>$_$<clip_id>`, as in MMSA's feature files; both parts are text, so leading zeros stay.
    The video is its dialogue and, where the clip id is a number, that number is its turn. A clip without an
    `.mp4` is text only; an empty text is no transcript, an empty label no label.

    Args:
        name: the registry name.
        table: the table; `Raw/` lies beside it.
        sentiment: the task of the column `label`.
        unimodal: add the tasks of `UNIMODAL` where their columns are filled, in the range of `sentiment`. They are
            not among the default tasks.
        emotions: add this task where the table has a column for each of its classes: those with an intensity above 0
            are present. It is not among the default tasks.

    Raises:
        UsageError: the table or a column is missing, or a cell holds what it cannot.
    """
    if not table.is_file() and any(table.parent.glob("*.csd")):
        way = f"mmsa corpus import {table.parent} --name {name}, then --corpus ./{name}"
        raise UsageError(f"{table.parent} holds the CMU-SDK's files: {way}")
    rows = list(read_rows(table, COLUMNS))
    columns = {sentiment.name: "label"}
    if unimodal:
        columns |= {task: column for task, column in UNIMODAL.items() if any(row.get(column) for row in rows)}
    tasks = {task: Regression(task, sentiment.low, sentiment.high, sentiment.metrics) for task in columns}
    rated = emotions if emotions and _has_all(table, rows, emotions) else None
    raw = table.parent / "Raw"
    clips = tuple(_clip(row, raw if raw.is_dir() else None, columns, tasks, rated) for row in rows)
    every: tuple[Task, ...] = (*tasks.values(), *([rated] if rated else []))
    try:
        return Corpus(name, clips, every, _note(clips), default_tasks=(sentiment.name,))
    except ValueError as error:
        raise UsageError(f"{table} is not a table of {name}: {error}") from None


def _has_all(table: Path, rows: Sequence[Row], emotions: MultiLabel) -> bool:
    """Whether the table has the columns of the emotions; some of them alone are an error."""
    there = [name for name in emotions.classes if rows and name in rows[0].cells]
    if there and len(there) < len(emotions.classes):
        lacking = ", ".join(name for name in emotions.classes if name not in there)
        raise UsageError(f"{table} has the columns {', '.join(there)} but lacks {lacking}: give all, or none")
    return bool(there)


def _clip(
    row: Row, raw: Path | None, columns: Mapping[str, str], tasks: Mapping[str, Regression], rated: MultiLabel | None
) -> Clip:
    video, clip, mode = row["video_id"], row["clip_id"], row["mode"].lower()
    for column in ("video_id", "clip_id"):
        if not row[column]:
            raise row.error(column, "must not be empty")
    if mode not in MODES:
        raise row.error("mode", f"must be one of {', '.join(MODES)}, not {row['mode']!r}")
    media = raw / video / f"{clip}.mp4" if raw else None
    return Clip(
        id=f"{video}$_${clip}",
        split=MODES[mode],
        labels={
            **{task: _label(row, column, tasks[task]) for task, column in columns.items() if row.get(column)},
            **(_emotions(row, rated) if rated else {}),
        },
        media=media if media and media.is_file() else None,
        transcript=row["text"] or None,
        dialogue=video,
        turn=int(clip) if clip.isdecimal() else None,
        attributes={"annotation": row.get("annotation")} if row.get("annotation") else {},
    )


def _label(row: Row, column: str, task: Regression) -> float:
    try:
        return task.encode(row[column])
    except ValueError as error:
        raise row.error(column, error) from None


def _emotions(row: Row, task: MultiLabel) -> dict[str, Label]:
    """The emotions that are present; no label where no intensity is given."""
    if not any(row[name] for name in task.classes):
        return {}
    present = []
    for name in task.classes:
        try:
            intensity = float(row[name])
        except ValueError:
            intensity = math.nan
        if not 0 <= intensity <= 3:
            raise row.error(name, f"must be an intensity from 0 to 3, not {row[name]!r}")
        if intensity > 0:
            present.append(name)
    return {task.name: tuple(present)}


def _note(clips: Sequence[Clip]) -> str:
    """What must be said where the split cuts through videos: the same faces and voices are trained and tested on."""
    videos = {split: {clip.dialogue for clip in clips if clip.split == split} for split in ("train", "test")}
    shared = len(videos["train"] & videos["test"])
    if not shared:
        return ""
    return f"Split by clip, not by video: {shared} of {len(videos['test'])} test videos also have clips in train."
