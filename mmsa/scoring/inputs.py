"""What to score: files, folders, lists, tables and addresses, each thing once and in a steady order."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmsa.errors import UsageError
from mmsa.scoring.remote import check_address, is_address, list_folder

MEDIA_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".asf", ".mpg", ".mpeg", ".ts", ".mts"),
        *(".3gp", ".3g2", ".ogv", ".nut", ".wav", ".w64", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus"),
        *(".wma", ".aif", ".aiff", ".caf", ".au", ".amr", ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"),
    }
)
"""What is taken from a folder where no pattern is given."""

COLUMNS = ("path", "start", "end", "text", "id")
"""Columns of a table of inputs that mean something; `path` must be there, others are carried into the output."""


@dataclass(frozen=True)
class Input:
    """One thing to score.

    Attributes:
        path: a local path or an address, as given.
        start_seconds: of a segment; None is the beginning.
        end_seconds: of a segment; None is the end.
        text: what is said; None looks beside the file.
        id: a name from a table; None without.
        extra: other columns of the table.
        error: why it cannot be scored though it was asked for; None where it can.
    """

    path: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    text: str | None = None
    id: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def span(self) -> tuple[float | None, float | None]:
        """Start and end."""
        return self.start_seconds, self.end_seconds

    @property
    def identity(self) -> str:
        """What makes it one thing: where it lies, which part of it, under which name."""
        place = self.path if is_address(self.path) else str(Path(self.path).absolute())
        return json.dumps([place, self.start_seconds, self.end_seconds, self.id])


@dataclass(frozen=True)
class Inputs:
    """All that is to be scored.

    Attributes:
        items: in order, each once.
        notes: what a user should know of how they were gathered.
    """

    items: tuple[Input, ...]
    notes: tuple[str, ...] = ()


def gather(
    given: Sequence[str | Path],
    *,
    lists: Sequence[str | Path] = (),
    glob: str | None = None,
    text: str | None = None,
    allow_remote: bool = False,
) -> Inputs:
    """Find all inputs.

    Args:
        given: files, folders (searched to the bottom), `@list.txt`, tables (`.csv`), addresses such as `s3://…`.
        lists: files with a path a line.
        glob: which files of folders; None takes `MEDIA_SUFFIXES`.
        text: what is said, for a single file.
        allow_remote: also take addresses of the open network (http and others).

    Raises:
        UsageError: nothing to score, a list or table that cannot be read, or an address that is not allowed.
    """
    found: list[Input] = []
    for one in [*map(str, given), *(f"@{path}" for path in lists)]:
        found += _expand(one, glob, allow_remote)
    if not found:
        raise UsageError("nothing to score: give media files, folders, a table (.csv) or a list (@list.txt)")
    once: dict[str, Input] = {}
    for item in found:
        once.setdefault(_resolved(item), item)
    notes = []
    if len(once) < len(found):
        twice = len(found) - len(once)
        notes.append(f"{twice} of {len(found)} inputs were given more than once and are scored once")
    items = tuple(once.values())
    if text is not None:
        if len(items) > 1:
            raise UsageError(
                f"--text is the transcript of one file, but {len(items)} were given: score them one by one, or give a "
                "table with the columns path and text"
            )
        items = (Input(items[0].path, *items[0].span, text, items[0].id, items[0].extra),)
    return Inputs(items, tuple(notes))


def _expand(given: str, glob: str | None, allow_remote: bool) -> Iterator[Input]:
    if given.startswith("@"):
        yield from _from_list(Path(given[1:]), glob, allow_remote)
    elif is_address(given):
        check_address(given, allow_remote=allow_remote)
        if given.endswith("/") or "*" in given:
            pattern = given if "*" in given else f"{given}{glob or '**'}"
            yield from (Input(path) for path in _chosen(list_folder(pattern), glob))
        else:
            yield Input(given)
    elif Path(given).is_dir():
        yield from _from_folder(Path(given), glob)
    elif given.lower().endswith(".csv"):
        yield from _from_table(Path(given), allow_remote)
    else:
        yield Input(given)


def _chosen(paths: Iterable[str], glob: str | None) -> list[str]:
    kept = [path for path in paths if glob is not None or Path(path).suffix.lower() in MEDIA_SUFFIXES]
    return sorted(kept, key=natural)


def _from_folder(folder: Path, glob: str | None) -> Iterator[Input]:
    try:
        everything = folder.rglob(glob or "*")
        files = [path for path in everything if path.is_file() and not _hidden(path.relative_to(folder))]
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"--glob takes a pattern such as '*.mp4', not {glob!r}: {error}") from None
    paths = _chosen(map(str, files), glob)
    if not paths:
        what = f"that match {glob!r}" if glob is not None else "with a suffix of media (--glob takes others)"
        raise UsageError(f"the folder {folder} holds no files {what}")
    yield from map(Input, paths)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _from_list(path: Path, glob: str | None, allow_remote: bool) -> Iterator[Input]:
    for line in _read(path, "a list of files").splitlines():
        name = line.strip()
        if name.startswith("@"):
            raise UsageError(f"{path} names another list, {name}: give each list itself")
        if name:
            yield from _expand(_beside(path, name), glob, allow_remote)


def _from_table(path: Path, allow_remote: bool) -> Iterator[Input]:
    rows = csv.reader(_read(path, "a table of inputs").splitlines(keepends=True))
    header = [name.strip() for name in next(rows, [])]
    if "path" not in header:
        raise UsageError(f"the table {path} needs a column 'path'; its columns are {', '.join(header) or 'none'}")
    if len(set(header)) < len(header):
        raise UsageError(f"the table {path} names a column twice: {', '.join(header)}")
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        place = f"{path}, line {rows.line_num}"
        if len(row) != len(header):
            raise UsageError(f"{place}: {len(row)} cells for {len(header)} columns")
        cells = dict(zip(header, row, strict=True))
        name = cells["path"].strip()
        if not name:
            raise UsageError(f"{place}: no path")
        if is_address(name):
            check_address(name, allow_remote=allow_remote)
        start, end = (_seconds(cells.get(key, ""), key, place) for key in ("start", "end"))
        wrong = (start or 0.0) >= (math.inf if end is None else end)
        yield Input(
            path=_beside(path, name),
            start_seconds=start,
            end_seconds=end,
            text=cells.get("text") or None,
            id=cells.get("id", "").strip() or None,
            extra={key: value for key, value in cells.items() if key not in COLUMNS},
            error=f"{place}: a segment from {start or 0:g} to {end:g} s has no length" if wrong and end else None,
        )


def _seconds(cell: str, name: str, place: str) -> float | None:
    """Seconds, or `h:mm:ss.s`."""
    if not cell.strip():
        return None
    try:
        value = 0.0
        for part in cell.strip().split(":"):
            value = value * 60 + float(part)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{place}: {name} must be seconds or h:mm:ss, not {cell!r}")
    return value


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as {what} ({error}): it must be a text file in UTF-8") from None


def _beside(list_: Path, name: str) -> str:
    """A path in a list or table is relative to the folder that this one lies in."""
    return name if is_address(name) else str(list_.parent / name)


def _resolved(item: Input) -> str:
    """Like `Input.identity`, but links lead to what they name."""
    place = item.path if is_address(item.path) else str(Path(item.path).resolve())
    return json.dumps([place, item.start_seconds, item.end_seconds, item.id])


def natural(path: str) -> list[tuple[int, int, str]]:
    """A sort key under which clip2 comes before clip10.

    Example:
        >>> sorted(["clip10", "clip2", "Clip1"], key=natural)
        ['Clip1', 'clip2', 'clip10']
    """
    parts = re.split(r"(\d+)", path.casefold())
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]
