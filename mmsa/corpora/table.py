"""Corpora of the user's own: a table of clips, and beside it a small file that says what the labels mean.

The table is `NAME.csv` (UTF-8, with a header) or `NAME.parquet`, with one row per clip and the columns

| column | content |
| --- | --- |
| `id` | required; unique |
| `split` | required; `train`, `valid` or `test` |
| one per task | the label, under the task's name; empty where unlabelled |
| `media` | path of the clip's file, from the table's folder or from `media_root` |
| `start_seconds`, `end_seconds` | where the clip lies in `media`; empty is its beginning and its end |
| `transcript` | what is said |
| `speaker`, `dialogue` | any names |
| `turn` | position in the dialogue, a whole number from 0 |

and those that the description lists as `attributes` or `arrays`; any other is an error, so that no typing error goes
unseen. The label of a multi-label task is the classes that hold, `smile|frown`, or `-` where none does (in Parquet, a
list of them). The description is `NAME.yaml` or `NAME.json`:

```yaml
tasks:                      # required; what can be learned from the labels
  sentiment: {kind: regression, low: -3, high: 3, metrics: mosi}    # or sims, simsv2, plain (the default)
  emotion: {kind: classification, classes: [calm, glad]}
  signs: {kind: multi-label, classes: [smile, frown]}     # any number of them may hold
default_tasks: [sentiment]  # learned when none are asked for; all of them without this
name: mine                  # of the corpus; the table's own without this
note: Staged, not spontaneous.            # shown with every result
language: en                # ISO 639-1 code of what is said; extractors made for others warn
media_root: ../videos
attributes: [camera]        # columns that are only kept
arrays: {eeg: eeg_file}     # other modalities: the column with each clip's .npy file, (T, D) numbers
features: {audio: features/audio}         # ready-made features, as `mmsa corpus import` writes them
```

A folder with `clips.csv` or `clips.parquet` and its description is a corpus under the folder's name.
"""

from __future__ import annotations

import csv
import difflib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmsa.corpora.cells import NONE_HOLDS, SEPARATOR, label_of
from mmsa.corpora.clip import SPLITS, Clip, Corpus
from mmsa.corpora.description import OPTIONAL, REQUIRED, Description, read_description
from mmsa.errors import UsageError
from mmsa.tasks import Label

SUFFIXES = (".csv", ".parquet")
STEM = "clips"
"""Name of the table in a folder that is a corpus."""

SHOWN = 50
"""So many problems are spelt out in an error."""

Cells = Mapping[str, str]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a cell or a row.

    Attributes:
        row: number of the row: as a spreadsheet shows it for CSV (the header is row 1), from 1 for Parquet.
        clip: the clip's id, or "" where it has none.
        column: which cell, or "" for the row.
        message: what is wrong, what is allowed.
    """

    row: int
    clip: str
    column: str
    message: str

    def __str__(self) -> str:
        where = f", column {self.column}" if self.column else ""
        return f"row {self.row}{where}: {self.message}"


@dataclass(frozen=True)
class TableContent:
    """A table as read.

    Attributes:
        path: the table.
        description: what stands beside it.
        clips: those whose rows are as they must be.
        arrays: by modality and clip id, the clip's `.npy` file; those that name none are left out.
        problems: of the other rows.
    """

    path: Path
    description: Description
    clips: tuple[Clip, ...]
    arrays: Mapping[str, Mapping[str, Path]]
    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        """The corpus's name: as described, else the table's, else its folder's."""
        own = self.path.resolve().parent.name if self.path.stem == STEM else self.path.stem
        return self.description.name or own


def find_table(given: Path | str) -> Path | None:
    """The table that a path or a name means: a file, a folder that holds one, or such a folder in `$MMSA_DATA`.

    Raises:
        UsageError: a path to nothing, or to a folder that is no corpus.
    """
    path, data = Path(given), os.environ.get("MMSA_DATA")
    candidates: list[Path] = [path, Path(data) / path] if data else [path]
    for candidate in candidates:
        if candidate.is_file() and candidate.suffix in SUFFIXES:
            return candidate
        found = [candidate / f"{STEM}{suffix}" for suffix in SUFFIXES if (candidate / f"{STEM}{suffix}").is_file()]
        if len(found) > 1:
            raise UsageError(f"{candidate} holds both {found[0].name} and {found[1].name}: which one is the corpus?")
        if found:
            return found[0]
    if path.suffix in SUFFIXES or os.sep in str(given):
        raise UsageError(
            f"{path} is no corpus: that is a .csv or .parquet table of clips, or a folder with {STEM}.csv or "
            f"{STEM}.parquet. A corpus in its official layout is read with --corpus NAME --root {path}"
        )
    return None


def load_table(path: Path | str) -> Corpus:
    """Read a table and its description (see the module).

    Raises:
        UsageError: either is missing or holds what it must not; all problems are named at once.
    """
    content = read_table(Path(path))
    if content.problems:
        shown = "\n".join(f"  {problem}" for problem in content.problems[:SHOWN])
        more = len(content.problems) - SHOWN
        rest = f"\n  and {more} more" if more > 0 else ""
        raise UsageError(f"{path} is not valid:\n{shown}{rest}")
    return make_corpus(content)


def make_corpus(content: TableContent) -> Corpus:
    """The corpus of the clips that were read.

    Raises:
        UsageError: none were, or an array is not as it must be.
    """
    from mmsa.corpora.arrays import store_arrays

    if not content.clips:
        raise UsageError(f"{content.path} holds no clips")
    if not all(part.isalnum() or part in "._-" for part in content.name):
        raise UsageError(f"the corpus's name {content.name!r} must be letters, digits, '.', '_' and '-': rename it")
    folder, described = content.path.parent, content.description
    return Corpus(
        name=content.name,
        clips=content.clips,
        tasks=described.task_list(),
        note=described.note,
        default_tasks=described.default_tasks,
        language=described.language,
        features={
            **{key: folder / path for key, path in described.features.items()},
            **store_arrays(content.name, content.clips, content.arrays),
        },
    )


def read_table(path: Path) -> TableContent:
    """Read a table row by row; rows with problems are told apart from the others.

    Raises:
        UsageError: the table or its description cannot be read at all, or lacks a column.
    """
    described = read_description(path)
    columns, rows = _csv_rows(path) if path.suffix == ".csv" else _parquet_rows(path)
    _check_columns(path, columns, described)
    reader = _RowReader(path.parent, described)
    for number, cells in rows:
        reader.read(number, cells)
    arrays = {key: dict(files) for key, files in reader.arrays.items()}
    return TableContent(path, described, tuple(reader.clips), arrays, tuple(reader.problems))


def _check_columns(path: Path, columns: Iterable[str], described: Description) -> None:
    """All columns that must be there are, and no others.

    Raises:
        UsageError: naming both kinds.
    """
    columns = list(columns)
    needed = [*REQUIRED, *described.tasks, *described.attributes, *described.arrays.values()]
    known = [*needed, *OPTIONAL]
    problems = [f"it lacks the column {name!r}" for name in needed if name not in columns]
    for name in columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else "describe it as a task, or list it as an attribute"
            problems.append(f"it has the unknown column {name!r}: {hint}")
    problems += [f"it has the column {name!r} twice" for name in sorted({n for n in columns if columns.count(n) > 1})]
    if problems:
        raise UsageError(f"{path} is not valid: " + "; ".join(problems))


Rows = Iterator[tuple[int, Cells | None]]


def _csv_rows(path: Path) -> tuple[list[str], Rows]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a CSV table in UTF-8: {error}") from None
    if not lines:
        raise UsageError(f"{path} is empty: its first row names the columns")
    header = [name.strip() for name in lines[0]]
    whole = (
        (row, dict(zip(header, cells, strict=True)) if len(cells) == len(header) else None)
        for row, cells in enumerate(lines[1:], 2)
        if cells
    )
    return header, whole


def _parquet_rows(path: Path) -> tuple[list[str], Rows]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        raise UsageError(f"{path} is not a Parquet table: {error}") from None
    rows = (
        (number, {key: _text(value) for key, value in row.items()}) for number, row in enumerate(table.to_pylist(), 1)
    )
    return list(table.column_names), rows


def _text(value: object) -> str:
    """A value of Parquet as it would stand in CSV.

    pandas writes missing values as NaN, and whole numbers as floats in a column where some are missing. A list is
    the classes that hold.
    """
    if isinstance(value, list):
        return SEPARATOR.join(map(str, value)) or NONE_HOLDS
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class _RowReader:
    """Turns rows into clips and gathers what is wrong with them."""

    def __init__(self, folder: Path, described: Description) -> None:
        self.root = folder / (described.media_root or ".")
        self.folder = folder
        self.described = described
        self.tasks = described.task_list()
        self.clips: list[Clip] = []
        self.arrays: dict[str, dict[str, Path]] = {key: {} for key in described.arrays}
        self.problems: list[Problem] = []
        self.first: dict[str, int] = {}

    def read(self, number: int, cells: Cells | None) -> None:
        """The next row; None is one with more or fewer cells than the header."""
        if cells is None:
            message = "it has more or fewer cells than the header: is a comma in a text not quoted?"
            self.problems.append(Problem(number, "", "", message))
            return
        found: list[tuple[str, str]] = []
        clip = self._clip(number, {key: cell.strip() for key, cell in cells.items()}, found)
        if found:
            own = cells["id"].strip()
            self.problems += [Problem(number, own, column, message) for column, message in found]
            return
        self.clips.append(clip)
        for key, column in self.described.arrays.items():
            if cells[column].strip():
                self.arrays[key][clip.id] = self.folder / cells[column].strip()

    def _clip(self, number: int, cells: Cells, found: list[tuple[str, str]]) -> Clip:
        own, split, media = cells["id"], cells["split"], cells.get("media")
        if not own:
            found.append(("id", "it must not be empty"))
        elif self.first.setdefault(own, number) != number:
            found.append(("id", f"{own!r} is already the id of row {self.first[own]}"))
        if split not in SPLITS:
            found.append(("split", f"it must be one of {', '.join(SPLITS)}, not {split!r}"))
        start = _number(cells, "start_seconds", found)
        end = _number(cells, "end_seconds", found)
        if end is not None and end <= (start or 0.0):
            found.append(("end_seconds", f"the clip must end after it starts, not at {end} after {start or 0.0}"))
        if (start is not None or end is not None) and not media:
            found.append(("media", "it must name the file that start_seconds and end_seconds lie in"))
        return Clip(
            id=own,
            split=split,  # type: ignore[arg-type]  # else there is a problem, and this clip is left out
            labels=dict(self._labels(cells, found)),
            media=self.root / media if media else None,
            transcript=cells.get("transcript") or None,
            start_seconds=start,
            end_seconds=end,
            speaker=cells.get("speaker") or None,
            dialogue=cells.get("dialogue") or None,
            turn=_turn(cells, found),
            attributes={name: cells[name] for name in self.described.attributes if cells[name]},
        )

    def _labels(self, cells: Cells, found: list[tuple[str, str]]) -> Iterator[tuple[str, Label]]:
        for task in self.tasks:
            cell = cells[task.name]
            if not cell:
                continue
            try:
                yield task.name, label_of(task, cell)
            except ValueError as error:
                found.append((task.name, str(error)))


def _number(cells: Cells, column: str, found: list[tuple[str, str]]) -> float | None:
    cell = cells.get(column)
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        found.append((column, f"it must be a number of seconds from 0 on, not {cell!r}"))
        return None
    return value


def _turn(cells: Cells, found: list[tuple[str, str]]) -> int | None:
    cell = cells.get("turn")
    if not cell:
        return None
    if not (cell.isascii() and cell.isdigit()):
        found.append(("turn", f"it must be a whole number from 0 on, not {cell!r}"))
        return None
    return int(cell)
