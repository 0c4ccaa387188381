"""A table that is being made, clip by clip, in an order that is known from the start.

Each clip is appended to `values.raw` and `times.raw`, then as a line to `journal.jsonl`. A process that dies leaves
whole clips and maybe the beginning of one more. The next one reads all of it back against the checksums, cuts off what
is not whole and goes on behind it, so that the finished table has the same bytes as one made in one go. Nothing is
waited for on the disk while clips are added: after a power cut, the checksums tell what had arrived.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from extractors.spec import ExtractorSpec
from mmsa.errors import UsageError
from mmsa.features.rows import (
    CLIP_DTYPE,
    CLIPS,
    JOURNAL,
    PART,
    TIME_BYTES,
    Record,
    Rows,
    Stored,
    checksum,
    journal_line,
    part_rows,
    table_rows,
)
from mmsa.features.table import (
    DESCRIPTION,
    OFFSETS,
    TIMES,
    VALUES,
    StoreDtype,
    describe,
    encode,
    move_into_place,
    row_bytes,
    sync,
)


def part_folder(table: Path) -> Path:
    """Where a table is made before it has its name."""
    return table.parent / f".{table.name}{PART}"


class Part:
    """The beginning of a table, opened to be continued; only one process may hold it at a time.

    Args:
        table: the folder that the finished table will be.
        spec: the extractor's.
        names: the extractor's feature names.
        dtype: how values are kept.
        digests: the clips, in order.

    Attributes:
        rows: the clips that are there, which can be read.
        kept: how many were there when it was opened.
    """

    def __init__(
        self, table: Path, spec: ExtractorSpec, names: tuple[str, ...], dtype: StoreDtype, digests: Sequence[bytes]
    ) -> None:
        self.table, self.folder = table, part_folder(table)
        self.spec, self.names, self.dtype, self.digests = spec, names, dtype, digests
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows = self._recover()
        self.kept = len(self)
        self._values, self._times, self._journal = (
            (self.folder / name).open("ab") for name in (VALUES, TIMES, JOURNAL)
        )

    def __len__(self) -> int:
        return len(self.rows.records)

    def _recover(self) -> Rows:
        """Keep the clips that are whole and cut off the rest."""
        if (self.folder / JOURNAL).is_file():
            rows = part_rows(self.folder, self.dtype, self.names)
        else:
            try:  # a finished table that did not get its name
                rows = table_rows(self.folder)
            except UsageError:
                rows = Rows(self.folder, self.dtype, self.names, [])
        del rows.records[rows.count_sound(self.digests) :]
        lines = b"".join(journal_line(record) for record in rows.records)
        _replace(self.folder / JOURNAL, lines)
        steps = sum(record.steps for record in rows.records)
        for name, width in ((VALUES, row_bytes(self.dtype, len(self.names))), (TIMES, TIME_BYTES)):
            with (self.folder / name).open("ab") as file:
                file.truncate(steps * width)
        for name in (DESCRIPTION, OFFSETS, CLIPS):
            (self.folder / name).unlink(missing_ok=True)
        return rows

    def add(self, stored: Stored, clip: str) -> None:
        """What is to be stored of the next clip, and its id for messages.

        Raises:
            UsageError: its values cannot be kept as the table's type.
        """
        sequence, reason, notes = stored
        values, times = encode(sequence, self.dtype, clip)
        records = self.rows.records
        start = records[-1].start + records[-1].steps if records else 0
        digest = self.digests[len(records)]
        total = checksum(digest, reason, values, times, notes)
        record = Record(digest, start, len(sequence), total, reason, notes)
        for file, content in ((self._values, values), (self._times, times), (self._journal, journal_line(record))):
            file.write(content)
            file.flush()  # to the system: a killed process loses nothing of it
        records.append(record)

    def finish(self, corpus: str) -> None:
        """Give the table its name.

        Args:
            corpus: which one it was made for, for people who look into the store.
        """
        if len(self) != len(self.digests):
            raise ValueError(f"{len(self)} of {len(self.digests)} clips were added")
        for file in (self._values, self._times):
            sync(file)
        self.close()
        records = self.rows.records
        clips = np.zeros(len(records), CLIP_DTYPE)
        clips["digest"] = np.frombuffer(b"".join(self.digests), np.uint8).reshape(len(records), -1)
        clips["checksum"] = [record.checksum for record in records]
        with (self.folder / CLIPS).open("wb") as file:
            np.save(file, clips, allow_pickle=False)
            sync(file)
        offsets = [0, *(record.start + record.steps for record in records)]
        missing = {str(i): record.reason for i, record in enumerate(records) if record.reason is not None}
        notes = {str(i): record.notes for i, record in enumerate(records) if record.notes}
        describe(self.folder, self.spec, self.names, self.dtype, offsets, missing, notes, corpus=corpus)
        (self.folder / JOURNAL).unlink()
        move_into_place(self.folder, self.table)

    def close(self) -> None:
        """Close the files; what was added stays."""
        for file in (self._values, self._times, self._journal):
            with suppress(ValueError):
                file.close()
        self.rows.close()


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.new")
    with partial.open("wb") as file:
        file.write(content)
        sync(file)
    partial.replace(path)


def discard(folder: Path) -> None:
    """Delete a table or a part so that, interrupted, it is no table any more."""
    for name in (DESCRIPTION, JOURNAL):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder)
