"""The append-only file of results: a row is there whole or not at all, and nothing is there twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from mmsa.errors import UsageError
from mmsa.scoring.inputs import Input
from mmsa.scoring.remote import is_address, stamp
from mmsa.scoring.results import SCHEMA, Score


def result_key(item: Input, digest: str, options: Mapping[str, Any]) -> str:
    """32 hexadecimal digits of everything that an input's row depends on.

    They are the file's path, size and time of writing, those of its transcript, the segment, text and name that were
    given, the model and the options. A file that changes gets another key, and so another row.
    """
    from mmsa.sidecars import find_sidecar

    if is_address(item.path):
        stamps: list[Any] = stamp(item.path)
    else:
        path = Path(item.path)
        beside = find_sidecar(path) if item.text is None else None
        stamps = [_stamp(path), None if beside is None else [beside.suffix, _stamp(beside)]]
    seen = [item.identity, stamps, item.text, item.error, digest, dict(options)]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:32]


def _stamp(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


class ResultFile:
    """A file of JSON lines that one process at a time may extend; use it in a `with` statement.

    Each row is written in one piece and synced to the disk before the next input is taken up. What a killed process
    left of its last row is cut off when the file is opened again. The system lets go of the lock when the process that
    holds it ends, however it does.

    Args:
        path: the file; its folder must be there.
        model: what `Scorer.model` says.
        options: what `Timeline.to_dict` says.

    Attributes:
        errors: by key of each row that is there: whether it is an error row. The last row of a key counts.
    """

    def __init__(self, path: Path, model: Mapping[str, str], options: Mapping[str, Any]) -> None:
        self.path = path
        self.errors: dict[str, bool] = {}
        self._model, self._options = model, json.loads(json.dumps(dict(options)))
        self._handle = -1
        self._stack = ExitStack()

    def __enter__(self) -> ResultFile:
        """Lock and read the file.

        Raises:
            UsageError: another process writes to it, it is no file of results, or one of another model or options.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"another process is writing to {self.path}: wait for it, or give another --output"
            ) from None
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error}") from None
        try:
            self._stack.callback(lock.release)
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._stack.callback(os.close, self._handle)
            self._read()
        except OSError as error:
            self._stack.close()
            raise UsageError(f"{self.path} cannot be written: {error}") from None
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def append(self, score: Score) -> None:
        """Write a row and wait until it is on the disk.

        Raises:
            UsageError: the disk does not take it; what was written of it is cut off again.
        """
        line = json.dumps(score.to_dict(), ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
        before = os.fstat(self._handle).st_size
        try:
            _write_all(self._handle, line + b"\n")
            os.fsync(self._handle)
        except BaseException as error:
            os.ftruncate(self._handle, before)
            if isinstance(error, OSError):
                raise UsageError(f"{self.path} cannot be written ({error}): make room and run the same again") from None
            raise
        self.errors[score.key] = score.error is not None

    def _read(self) -> None:
        end = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    self._check_torn(line)
                    break
                row = parse_row(self.path, number, line)
                self._check(row)
                self.errors[row["key"]] = "error" in row
                end += len(line)
        if end < os.fstat(self._handle).st_size:
            os.ftruncate(self._handle, end)
            os.fsync(self._handle)

    def _check_torn(self, line: bytes) -> None:
        """The beginning of a row may be cut off; another file may not."""
        begins = f'{{"schema": "{SCHEMA}"'.encode()
        if not (line.startswith(begins) or begins.startswith(line)):
            raise UsageError(f"{self.path} is no file of scores: give another --output")

    def _check(self, row: Mapping[str, Any]) -> None:
        if row["model"]["digest"] != self._model["digest"]:
            origin = f"trained on {row['model']['corpus']}" if row["model"]["corpus"] else "published classifiers"
            raise UsageError(
                f"{self.path} holds the scores of another model ({origin}, digest "
                f"{row['model']['digest'][:8]}, not {self._model['digest'][:8]}): give another --output, or move it"
            )
        if row["options"] != self._options:
            names = sorted({*row["options"], *self._options})
            changed = [
                f"{name} was {row['options'].get(name)} and is {self._options.get(name)}"
                for name in names
                if row["options"].get(name) != self._options.get(name)
            ]
            raise UsageError(
                f"{self.path} holds scores made with other options ({', '.join(changed)}): use those, or give another "
                "--output"
            )


def parse_row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """One line as a row.

    Raises:
        UsageError: it is none, or one of another schema.
    """
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or row.get("schema") != SCHEMA or not isinstance(row.get("model"), dict):
        found = f"schema {row['schema']!r}" if isinstance(row, dict) and "schema" in row else "no row"
        raise UsageError(
            f"{path}, line {number}: {found}, where rows of {SCHEMA} are expected: give another --output, or take the "
            "line out if the disk damaged it"
        )
    return row


def read_scores(path: Path) -> Iterator[Score]:
    """The results in a file, one at a time; of several about one input (a file that changed, a retry) the last.

    Raises:
        UsageError: a line is no row. A torn last line is passed over.
    """
    for place in row_places(path):
        yield read_score(path, place)


def row_places(path: Path) -> list[int]:
    """Where in the file the rows begin that `read_scores` reads, in bytes.

    Raises:
        UsageError: a line is no row.
    """
    last: dict[str, int] = {}
    with path.open("rb") as file:
        place = 0
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                row = parse_row(path, number, line)
                last[_input_of(row)] = place
            place += len(line)
    return sorted(last.values())


def read_score(path: Path, place: int) -> Score:
    """The result whose row begins at a place that `row_places` named."""
    with path.open("rb") as file:
        file.seek(place)
        return Score.from_dict(json.loads(file.readline()))


def _input_of(row: Mapping[str, Any]) -> str:
    return Input(row["path"], row["start_seconds"], row["end_seconds"], id=row["id"]).identity


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
