"""Rows of an official CSV table, each of which can say where it stands when something is wrong with it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmsa.errors import UsageError


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        path: the table.
        line: where the row ends in the file, from 1.
        cells: text by column.
    """

    path: Path
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """The text of a cell, without white space around it."""
        return self.cells[column].strip()

    def get(self, column: str) -> str:
        """The text of a cell; empty also where the table has no such column."""
        return self.cells.get(column, "").strip()

    def error(self, column: str, problem: object) -> UsageError:
        """The error for a cell."""
        return UsageError(f"{self.path}, line {self.line}, column {column}: {problem}")

    def integer(self, column: str) -> int:
        """A cell that holds a whole number.

        Raises:
            UsageError: it holds something else.
        """
        try:
            return int(self[column])
        except ValueError:
            raise self.error(column, f"must be a whole number, not {self[column]!r}") from None


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Read a CSV table in UTF-8, with or without a byte order mark.

    Args:
        path: the table.
        columns: those that it must have.

    Raises:
        UsageError: no such file, not UTF-8, a column is missing, or a row has more or fewer cells than the header.
    """
    if not path.is_file():
        raise UsageError(f"{path} not found: give the folder that holds it with --root FOLDER")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            absent = [name for name in columns if name not in (reader.fieldnames or ())]
            if absent:
                raise UsageError(f"{path} lacks the columns {', '.join(absent)}; it has {reader.fieldnames}")
            for cells in reader:
                if None in cells or None in cells.values():
                    count = f"it must have {len(reader.fieldnames or ())} cells, as the header has"
                    raise UsageError(f"{path}, line {reader.line_num}: {count}; is a comma in the text not quoted?")
                yield Row(path, reader.line_num, cells)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} must be UTF-8: {error}") from None
    except csv.Error as error:
        raise UsageError(f"{path} is not a CSV table: {error}") from None
