"""The `label.csv` layout: the one in which CMU-MOSI, CMU-MOSEI and CH-SIMS are passed on for MMSA and MMSA-FET.

`label.csv` has the columns `video_id, clip_id, text, label, label_T, label_A, label_V, annotation, mode`; the clips
lie in `Raw/<video_id>/<clip_id>.mp4`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.corpora.rows import Row, read_rows
from mmsa.errors import UsageError
from mmsa.tasks import Regression

COLUMNS = ("video_id", "clip_id", "text", "label", "mode")
MODES: dict[str, Split] = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}
"""Split by what the column `mode` says; the official tables say `train`, `valid` and `test`."""

UNIMODAL = {"sentiment_text": "label_T", "sentiment_audio": "label_A", "sentiment_vision": "label_V"}
"""Column by task: what one modality alone expresses, as raters who had only this modality judged it."""


def read_label_csv(name: str, table: Path, sentiment: Regression, *, unimodal: bool = False) -> Corpus:
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

    Raises:
        UsageError: the table or a column is missing, or a cell holds what it cannot.
    """
    rows = list(read_rows(table, COLUMNS))
    columns = {sentiment.name: "label"}
    if unimodal:
        columns |= {task: column for task, column in UNIMODAL.items() if any(row.get(column) for row in rows)}
    tasks = {task: Regression(task, sentiment.low, sentiment.high, sentiment.metrics) for task in columns}
    raw = table.parent / "Raw"
    clips = tuple(_clip(row, raw if raw.is_dir() else None, columns, tasks) for row in rows)
    try:
        return Corpus(name, clips, tuple(tasks.values()), _note(clips), default_tasks=(sentiment.name,))
    except ValueError as error:
        raise UsageError(f"{table} is not a table of {name}: {error}") from None


def _clip(row: Row, raw: Path | None, columns: Mapping[str, str], tasks: Mapping[str, Regression]) -> Clip:
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
        labels={task: _label(row, column, tasks[task]) for task, column in columns.items() if row.get(column)},
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


def _note(clips: Sequence[Clip]) -> str:
    """What must be said where the split cuts through videos: the same faces and voices are trained and tested on."""
    videos = {split: {clip.dialogue for clip in clips if clip.split == split} for split in ("train", "test")}
    shared = len(videos["train"] & videos["test"])
    if not shared:
        return ""
    return f"Split by clip, not by video: {shared} of {len(videos['test'])} test videos also have clips in train."
