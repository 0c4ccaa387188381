"""Lines of official text files that are no CSV tables, and files that lie in one of several places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mmsa.errors import UsageError


@dataclass(frozen=True)
class Line:
    """One line of a file.

    Attributes:
        path: the file.
        number: from 1.
        text: without the end of the line.
    """

    path: Path
    number: int
    text: str

    def error(self, problem: object) -> UsageError:
        """The error for this line."""
        return UsageError(f"{self.path}, line {self.number}: {problem}")


def read_lines(path: Path, *, empty: bool = False) -> Iterator[Line]:
    """The lines of a text in UTF-8, with or without a byte order mark.

    Only a line feed, after a carriage return or not, ends a line: posts contain the other characters that Python takes
    for line ends.

    Args:
        path: the file.
        empty: whether empty lines count; without it they are passed over.

    Raises:
        UsageError: no such file, or not UTF-8.
    """
    if not path.is_file():
        raise UsageError(f"{path} not found: give the folder that holds it with --root FOLDER")
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                text = line.removesuffix("\n").removesuffix("\r")
                if empty or text.strip():
                    yield Line(path, number, text)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} must be UTF-8: {error}") from None


def first_file(candidates: Iterable[Path]) -> Path | None:
    """The first that is a file, or None."""
    return next((path for path in candidates if path.is_file()), None)


def find_folder(root: Path, places: Iterable[str], file: str, corpus: str) -> Path:
    """The folder among `places` under `root` that holds a file.

    Raises:
        UsageError: none does.
    """
    folders = [root / place for place in places]
    for folder in folders:
        if (folder / file).is_file():
            return folder
    looked = ", ".join(str(folder) for folder in folders)
    raise UsageError(f"{root} is not the layout of {corpus}: no {file} in {looked}; give its folder with --root FOLDER")
