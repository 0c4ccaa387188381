"""Single clips of a table, or of one that is being made: found by digest, read with their checksum."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from mmsa.errors import UsageError
from mmsa.features.identity import DIGEST_BYTES
from mmsa.features.table import (
    DESCRIPTION,
    OFFSETS,
    TIMES,
    VALUES,
    StoreDtype,
    check_dtype,
    decode,
    notes_of,
    read_description,
    row_bytes,
)

CLIPS = "clips.npy"
JOURNAL = "journal.jsonl"
PART = ".part"
CLIP_DTYPE = np.dtype([("digest", "u1", (DIGEST_BYTES,)), ("checksum", "<u4")])
TIME_BYTES = 16


@dataclass(frozen=True)
class Record:
    """What a table says about one clip.

    Attributes:
        digest: which clip.
        start: its first row.
        steps: how many rows it has.
        checksum: CRC-32 of digest, reason, notes, times and values.
        reason: why it has no steps, or None.
        notes: what the user should know of it.
    """

    digest: bytes
    start: int
    steps: int
    checksum: int
    reason: str | None
    notes: tuple[str, ...] = ()


def checksum(digest: bytes, reason: str | None, values: bytes, times: bytes, notes: Sequence[str] = ()) -> int:
    """CRC-32 of all that is stored of a clip."""
    told = "\0".join([reason or "", *notes])
    return zlib.crc32(values, zlib.crc32(times, zlib.crc32(digest + told.encode())))


class Stored(NamedTuple):
    """What a table has of one clip.

    Attributes:
        sequence: its steps.
        reason: why there are none, or None.
        notes: what the user should know of it.
    """

    sequence: FeatureSequence
    reason: str | None
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class Rows:
    """The clips of one folder, each read by itself.

    Plain reads, not a memory map: a part that another process cuts back must give a short read, not a crash.
    """

    folder: Path
    dtype: StoreDtype
    names: tuple[str, ...]
    records: list[Record]
    _files: tuple[int, int] | None = field(default=None, init=False)

    def read(self, position: int) -> Stored | None:
        """What is stored of a clip; None where what lies on the disk is not what was written."""
        record = self.records[position]
        try:
            values, times = self._read_bytes(record)
        except OSError:
            return None
        if checksum(record.digest, record.reason, values, times, record.notes) != record.checksum:
            return None
        return Stored(decode(values, times, self.dtype, self.names), record.reason, record.notes)

    def count_sound(self, digests: Sequence[bytes]) -> int:
        """How many clips from the first on are these, whole and unharmed."""
        for i, (record, digest) in enumerate(zip(self.records, digests, strict=False)):
            if record.digest != digest or self.read(i) is None:
                return i
        return min(len(self.records), len(digests))

    def _read_bytes(self, record: Record) -> tuple[bytes, bytes]:
        if self._files is None:
            values, times = (os.open(self.folder / name, os.O_RDONLY) for name in (VALUES, TIMES))
            self._files = values, times
        width = row_bytes(self.dtype, len(self.names))
        return (
            _read(self._files[0], record.steps * width, record.start * width),
            _read(self._files[1], record.steps * TIME_BYTES, record.start * TIME_BYTES),
        )

    def close(self) -> None:
        """Close the files."""
        for number in self._files or ():
            os.close(number)
        self._files = None


def _read(file: int, count: int, offset: int) -> bytes:
    """Fewer bytes only where the file ends; one call gives at most 2 GiB."""
    parts = []
    while count:
        part = os.pread(file, count, offset)
        if not part:
            break
        parts.append(part)
        count, offset = count - len(part), offset + len(part)
    return b"".join(parts)


def table_rows(folder: Path) -> Rows:
    """The clips of a finished table of the store.

    Raises:
        UsageError: it is none.
    """
    meta = read_description(folder)
    try:
        clips = np.load(folder / CLIPS, allow_pickle=False)
        offsets: NDArray[np.int64] = np.load(folder / OFFSETS, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{folder} is no table of the store: {error}") from error
    if clips.dtype != CLIP_DTYPE or len(offsets) != len(clips) + 1:
        raise UsageError(f"{folder} is no table of the store: {CLIPS} does not fit")
    names = tuple(meta["names"])
    digests, missing, notes = split_digests(clips), meta["missing"], notes_of(meta)
    starts, sums = offsets.tolist(), clips["checksum"].tolist()
    records = [
        Record(digest, starts[i], starts[i + 1] - starts[i], sums[i], missing.get(str(i)), notes.get(str(i), ()))
        for i, digest in enumerate(digests)
    ]
    return Rows(folder, check_dtype(meta["dtype"]), names, records)


def split_digests(clips: NDArray[np.void]) -> list[bytes]:
    """The digests in a table's `clips.npy`."""
    joined = np.ascontiguousarray(clips["digest"]).tobytes()
    return [joined[i : i + DIGEST_BYTES] for i in range(0, len(joined), DIGEST_BYTES)]


def part_rows(folder: Path, dtype: StoreDtype, names: tuple[str, ...]) -> Rows:
    """The clips of a table that is being made, as far as its journal goes.

    The journal ends at its first line that is not whole: what comes behind a torn line is of no known place.
    """
    records: list[Record] = []
    start = 0
    for digest, steps, total, reason, notes in _journal(folder / JOURNAL):
        records.append(Record(digest, start, steps, total, reason, notes))
        start += steps
    return Rows(folder, dtype, names, records)


def _journal(path: Path) -> Iterator[tuple[bytes, int, int, str | None, tuple[str, ...]]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.split(b"\n")[:-1]:  # behind the last line break is nothing, or half a line
        try:
            digest, steps, total, reason, *notes = json.loads(line)
            reason = None if reason is None else str(reason)
            yield bytes.fromhex(digest), int(steps), int(total), reason, tuple(map(str, notes))
        except (ValueError, TypeError):
            return


def journal_line(record: Record) -> bytes:
    """What `part_rows` reads."""
    line = [record.digest.hex(), record.steps, record.checksum, record.reason, *record.notes]
    return json.dumps(line).encode() + b"\n"


def find_rows(
    groups: Iterable[tuple[Path, StoreDtype]], names: tuple[str, ...], wanted: Iterable[bytes], own: Path
) -> dict[bytes, tuple[Rows, int]]:
    """Where clips lie that some table of the same extractor has already.

    Every table carries the list of its clips, so that there is no index beside them that could say something else.

    Args:
        groups: folders of tables of one extractor and the type of their values, the preferred one first.
        names: the extractor's feature names.
        wanted: digests of clips.
        own: the part that is being filled, which is no source.

    Returns:
        By digest, a folder's rows and the position in it. What is damaged is found out at reading.
    """
    missing, found = set(wanted), dict[bytes, tuple[Rows, int]]()
    for group, dtype in groups:
        for folder in sorted(group.iterdir()) if group.is_dir() else ():
            if folder == own or not missing:
                continue
            rows = _rows_of(folder, dtype, names)
            if rows is None:
                continue
            for position, record in enumerate(rows.records):
                if record.digest in missing:
                    missing.discard(record.digest)
                    found[record.digest] = rows, position
    return found


def _rows_of(folder: Path, dtype: StoreDtype, names: tuple[str, ...]) -> Rows | None:
    if folder.name.endswith(PART):
        return part_rows(folder, dtype, names)
    if not (folder / DESCRIPTION).is_file():
        return None
    try:
        rows = table_rows(folder)
    except UsageError:
        return None
    return rows if rows.names == names else None
