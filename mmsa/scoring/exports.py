"""Results for other programs: tables (CSV, Parquet, DataFrame) and subtitles (WebVTT).

All of them are made from results that are complete, and appear whole or not at all.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.errors import UsageError, unknown
from mmsa.scoring.files import Names, whole_file
from mmsa.scoring.results import Score, TaskScore, WindowScore
from mmsa.scoring.stretches import own_stretches

if TYPE_CHECKING:
    import pandas as pd

Read = Callable[[], Iterable[Score]]
"""Gives the results from the start, each time it is called."""

FORMATS = ("jsonl", "csv", "parquet", "vtt")
TOGETHER = 4096

_TEXTS = ("path", "id", "speaker", "text", "error", "missing", "notes")
_NUMBERS = ("segment_start_seconds", "segment_end_seconds", "window", "start_seconds", "end_seconds")
_ORDER = (*_TEXTS[:2], *_NUMBERS, *_TEXTS[2:])


def records(score: Score) -> Iterator[dict[str, Any]]:
    """One flat record per window; one for an error. Columns that have no value are left out."""
    about: dict[str, Any] = {
        "path": score.path,
        "id": score.id,
        "segment_start_seconds": score.start_seconds,
        "segment_end_seconds": score.end_seconds,
        "error": score.error,
    }
    extra = {f"input.{name}": value for name, value in score.extra.items()}
    if score.error is not None:
        yield {**about, **extra}
    for window in score.windows:
        yield {**about, **_window(window), "notes": "; ".join((*score.notes, *window.notes)), **extra}


def _window(window: WindowScore) -> dict[str, Any]:
    record: dict[str, Any] = {
        "window": window.number,
        "start_seconds": window.start_seconds,
        "end_seconds": window.end_seconds,
        "speaker": window.speaker,
        "text": window.text,
        "missing": "; ".join(f"{key}: {reason}" for key, reason in window.missing.items()),
    }
    for name, score in window.scores.items():
        record |= _task(name, score)
        smoothed = window.smoothed.get(name)
        if smoothed is not None:
            record[f"{name}.smoothed"] = _shown(smoothed)
    for key, one in window.modalities.items():
        record[f"{key}.steps"] = one.steps
        record[f"{key}.weight"] = one.weight
        record |= {f"{key}.moved.{task}": value for task, value in one.contribution.items()}
    return record


def _task(name: str, score: TaskScore) -> dict[str, Any]:
    record = {name: _shown(score)}
    if score.interval is not None:
        record |= {f"{name}.low": score.interval[0], f"{name}.high": score.interval[1]}
    return record | {f"{name}.{label}": share for label, share in score.probabilities.items()}


def _shown(score: TaskScore) -> float | str | None:
    if score.labels is not None:
        return "+".join(score.labels)
    return score.value if score.label is None else score.label


def find_columns(scores: Iterable[Score]) -> dict[str, bool]:
    """Every column that has a value somewhere, in order, and whether it holds text."""
    found: dict[str, bool] = {}
    for score in scores:
        for record in records(score):
            for name, value in record.items():
                if value is not None:
                    found.setdefault(name, isinstance(value, str))
    found.setdefault("path", True)
    first = [name for name in _ORDER if name in found]
    carried = [name for name in found if name.startswith("input.")]
    rest = [name for name in found if name not in first and name not in carried]
    return {name: found[name] for name in (*first, *rest, *carried)}


def frame(scores: Sequence[Score]) -> pd.DataFrame:
    """All windows as a DataFrame, with the columns of the CSV output."""
    import pandas as pd

    return pd.DataFrame([record for score in scores for record in records(score)], columns=list(find_columns(scores)))


def write_csv(path: Path, read: Read) -> None:
    """One row per window, in UTF-8."""
    columns = list(find_columns(read()))
    with (
        whole_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for score in read():
            writer.writerows(records(score))


def write_parquet(path: Path, read: Read) -> None:
    """One row per window; texts, and numbers in double precision."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = find_columns(read())
    schema = pa.schema([(name, pa.string() if is_text else pa.float64()) for name, is_text in columns.items()])
    with whole_file(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        waiting: list[dict[str, Any]] = []
        for score in read():
            waiting += ({name: _arrow(record.get(name)) for name in columns} for record in records(score))
            if len(waiting) >= TOGETHER:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_pylist(waiting, schema))


def _arrow(value: Any) -> Any:
    """A file name that is no UTF-8 must not end the table."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def write_vtt(folder: Path, read: Read) -> None:
    """A WebVTT file per scored input, with its name; of several with one name the later ones get a number."""
    folder.mkdir(parents=True, exist_ok=True)
    names = Names()
    for score in read():
        if score.error is not None:
            continue
        with whole_file(folder / f"{names.of(score)}.vtt") as partial:
            partial.write_text(to_vtt(score), encoding="utf-8", errors="backslashreplace")


def to_vtt(score: Score) -> str:
    """Subtitles that say what is felt: the smoothed scores of each window.

    Where windows overlap, a cue ends and the next begins in the middle of what they share, so that one is shown at a
    time.
    """
    scored = [window for window in score.windows if window.smoothed]
    cues = ["WEBVTT\n", f"NOTE {_vtt(Path(score.path).name)}, scored by mmsa\n"]
    for window, (start, end) in zip(scored, own_stretches(scored), strict=True):
        if round(end, 3) > round(start, 3):
            cues.append(f"{_clock(start)} --> {_clock(end)}\n{_vtt(_cue(window))}\n")
    return "\n".join(cues)


def _cue(window: WindowScore) -> str:
    parts = [] if window.speaker is None else [f"{window.speaker}:"]
    for name, one in window.smoothed.items():
        if one.label is not None:
            parts.append(f"{one.label} {one.probabilities[one.label]:.0%}")
        elif one.labels is not None:
            parts.append(", ".join(f"{label} {one.probabilities[label]:.0%}" for label in one.labels) or f"no {name}")
        else:
            parts.append(f"{name} {one.value:+.2f}")
    return " ".join(parts)


def _vtt(text: str) -> str:
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}.{whole % 1000:03}"


class Places:
    """Where results go.

    Args:
        output: a folder (which is there, or has no suffix), or a file named `.jsonl`, `.csv` or `.parquet`.
        formats: names from `FORMATS`; the JSON lines are always written, and what `output`'s suffix says is added.

    Attributes:
        rows: the append-only file of JSON lines.

    Raises:
        UsageError: an unknown format, or a folder that is not there.
    """

    def __init__(self, output: Path, formats: Sequence[str] = ()) -> None:
        for name in formats:
            if name not in FORMATS:
                raise unknown("format", name, FORMATS)
        wanted = dict.fromkeys(formats)
        if output.is_dir() or not output.suffix:
            if not output.is_dir() and not output.parent.is_dir():
                raise UsageError(f"there is no folder {output.parent} to make {output.name} in")
            output.mkdir(exist_ok=True)
            base, self.subtitles = output / "scores", output / "vtt"
        else:
            kind = output.suffix.lower()[1:]
            if kind not in FORMATS[:3]:
                raise UsageError(f"--output is a folder or a file named .jsonl, .csv or .parquet, not {output.name}")
            if not output.parent.is_dir():
                raise UsageError(f"there is no folder {output.parent} to write {output.name} to")
            base, wanted[kind] = output.with_suffix(""), None
            self.subtitles = base.with_name(f"{base.name}-vtt")
        self.rows = base.with_name(f"{base.name}.jsonl")
        self._base, self._formats = base, list(wanted)

    def derive(self, read: Read) -> list[Path]:
        """Write the other formats; returns where."""
        writers: dict[str, tuple[Path, Callable[[Path, Read], None]]] = {
            "csv": (self._base.with_name(f"{self._base.name}.csv"), write_csv),
            "parquet": (self._base.with_name(f"{self._base.name}.parquet"), write_parquet),
            "vtt": (self.subtitles, write_vtt),
        }
        made = []
        for name in self._formats:
            if name in writers:
                path, write = writers[name]
                try:
                    write(path, read)
                except OSError as error:
                    raise UsageError(
                        f"{path} cannot be written ({error}); the rows in {self.rows} are complete: make room and run "
                        "the same again"
                    ) from None
                made.append(path)
        return made
