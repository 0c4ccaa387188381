"""Names of files that are made of results, and writing them whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsa.scoring.results import Score

_MOST_BYTES = 120


class Names:
    """A file name for each result: its id, or its file's name without the suffix.

    Of several alike the later ones get a number.

    Example:
        >>> names = Names()
        >>> [names.of(Score(path)) for path in ("a/talk.mp4", "b/Talk.mkv", "c.mp4")]
        ['talk', 'Talk-2', 'c']
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, score: Score) -> str:
        """Never twice the same, not even where the file system takes capitals for small letters."""
        stem = score.id or Path(score.path).stem
        stem = re.sub(r"[/\x00-\x1f\x7f]", "_", stem)
        stem = re.sub(r"^\.|^$", "_", stem)
        stem = _printable(stem).encode()[:_MOST_BYTES].decode("utf-8", "ignore")
        name, number = stem, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return name


def _printable(stem: str) -> str:
    """Bytes that are no UTF-8 and marks that turn the direction of writing have no place in a name that we choose."""
    return "".join(letter if letter.isprintable() else "_" for letter in stem)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside the wanted one that takes its place when it is complete."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    partial = Path(name)
    try:
        yield partial
        os.fsync(handle)
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(handle, 0o666 & ~mask)
        partial.replace(path)
    finally:
        os.close(handle)
        partial.unlink(missing_ok=True)
