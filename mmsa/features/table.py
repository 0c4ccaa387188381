"""One modality of a corpus on disk: the feature table that the store and ready-made features are kept in.

A table is a folder:

- `values.raw`: `(sum of T, D)` float32 or float16, little-endian, row after row;
- `times.raw`: `(sum of T, 2)` float64, little-endian, seconds;
- `offsets.npy`: `(N + 1,)` int64, where each clip's rows begin;
- `store.json`: the extractor's spec, the feature names, the values' type, why clips have no steps, and what the user
  should know of others;
- `present.raw`, of tables on a grid only: `(sum of T,)` bool, False where a row is an empty cell.

`store.json` is written last, into a folder that gets its name when all is on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from mmsa.errors import UsageError

FORMAT = 1
ABANDONED_SECONDS = 24 * 3600
DESCRIPTION = "store.json"
VALUES, TIMES, OFFSETS, PRESENT = "values.raw", "times.raw", "offsets.npy", "present.raw"

StoreDtype = Literal["float32", "float16"]
DTYPES: tuple[StoreDtype, ...] = get_args(StoreDtype)
Values = NDArray[np.float32] | NDArray[np.float16]


AGAIN = "delete the folder and have it made again"


class DamagedTableError(UsageError):
    """A folder that is no whole feature table."""


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """All clips' sequences of one modality, one after the other.

    Attributes:
        spec: the extractor that made them.
        names: `D` feature names.
        values: `(sum of T, D)` float32 or float16, memory-mapped: cast what you read, as `sequence` does.
        times: `(sum of T, 2)` float64 seconds, memory-mapped.
        offsets: `(N + 1,)` int64: clip `i` owns rows `offsets[i]` to `offsets[i + 1]`.
        missing: why a clip has no steps, by clip id.
        present: `(sum of T,)` bool, memory-mapped, of tables on a grid (see `mmsa.features.aligned`): False where a row
            is an empty cell, which holds zeros that are no data. None where every row is a step.
        folder: where it lies; None for one that is in memory only.
        notes: what the user should know of a clip, such as that packets of it could not be decoded, by clip id.
    """

    spec: ExtractorSpec
    names: tuple[str, ...]
    values: Values
    times: NDArray[np.float64]
    offsets: NDArray[np.int64]
    missing: Mapping[str, str]
    present: NDArray[np.bool_] | None = None
    folder: Path | None = None
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def sequence(self, clip: int) -> FeatureSequence:
        """The sequence of one clip in float32, by its position in the corpus; without empty cells."""
        rows = slice(self.offsets[clip], self.offsets[clip + 1])
        values, times = np.asarray(self.values[rows], np.float32), np.asarray(self.times[rows])
        if self.present is not None:
            values, times = values[self.present[rows]], times[self.present[rows]]
        return FeatureSequence(values, times, self.names)


def check_dtype(given: str) -> StoreDtype:
    """The type that values are kept in.

    Raises:
        UsageError: neither `"float32"` nor `"float16"`.
    """
    for known in DTYPES:
        if given == known:
            return known
    raise UsageError(f"features are kept as {' or '.join(DTYPES)}, not {given!r}")


def encode(sequence: FeatureSequence, dtype: StoreDtype, clip: str) -> tuple[bytes, bytes]:
    """Values and times as they lie on the disk.

    float16 keeps 11 significant bits: a relative error of at most 2**-11 for magnitudes from 6.1e-5 to 65504, and an
    absolute one of at most 2**-25 below.

    Raises:
        UsageError: a value is too large for float16; the features and the clip are named.
    """
    values = np.ascontiguousarray(sequence.values)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            small = values.astype(np.float16)
        over = np.isinf(small).any(axis=0)
        if over.any():
            columns = np.flatnonzero(over)
            told = ", ".join(f"{sequence.names[i]} ({np.abs(values[:, i]).max():g})" for i in columns[:5])
            more = f" and {len(columns) - 5} more features" if len(columns) > 5 else ""
            raise UsageError(
                f"clip {clip!r} has values beyond float16's ±65504 in {told}{more}: keep these features as float32 "
                "(--dtype float32, or feature_dtype=float32 in a training)"
            )
        return small.astype("<f2", copy=False).tobytes(), _bytes(sequence.times)
    return values.astype("<f4", copy=False).tobytes(), _bytes(sequence.times)


def _bytes(times: NDArray[np.float64]) -> bytes:
    return np.ascontiguousarray(times).astype("<f8", copy=False).tobytes()


def decode(values: bytes, times: bytes, dtype: StoreDtype, names: tuple[str, ...]) -> FeatureSequence:
    """What `encode` made bytes of."""
    rows = np.frombuffer(values, _numpy(dtype)).reshape(-1, len(names)).astype(np.float32)
    return FeatureSequence(rows, np.frombuffer(times, "<f8").astype(np.float64).reshape(-1, 2), names)


def _numpy(dtype: str) -> np.dtype[Any]:
    return np.dtype({"float32": "<f4", "float16": "<f2"}[dtype])


def row_bytes(dtype: StoreDtype, width: int) -> int:
    """Bytes of one row of `values.raw`."""
    return _numpy(dtype).itemsize * width


def describe(
    folder: Path,
    spec: ExtractorSpec,
    names: tuple[str, ...],
    dtype: StoreDtype,
    offsets: Sequence[int],
    missing: Mapping[str, str],
    notes: Mapping[str, Sequence[str]],
    **more: Any,
) -> None:
    """Write what makes a folder with `values.raw` and `times.raw` a table, `store.json` last."""
    with (folder / OFFSETS).open("wb") as file:
        np.save(file, np.asarray(offsets, "<i8"), allow_pickle=False)
        sync(file)
    meta = {
        "format": FORMAT,
        "spec": spec.to_dict(),
        "names": list(names),
        "dtype": dtype,
        "missing": dict(missing),
        "notes": {clip: list(own) for clip, own in notes.items()},
        **more,
    }
    with (folder / DESCRIPTION).open("wb") as file:
        file.write(json.dumps(meta).encode())
        sync(file)


def sync(file: Any) -> None:
    """Have the disk hold what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def move_into_place(partial: Path, folder: Path) -> None:
    """Give a finished folder its name, in place of what is no table there."""
    sync_folder(partial)
    if folder.is_dir():
        shutil.rmtree(folder)
    partial.replace(folder)
    sync_folder(folder.parent)


class TableWriter:
    """Appends sequences to a table that is being written; `table_writer` makes one."""

    def __init__(self, folder: Path, spec: ExtractorSpec, names: tuple[str, ...], dtype: StoreDtype) -> None:
        self.folder = folder
        self.spec = spec
        self.names = names
        self.dtype = dtype
        self.offsets = [0]
        self.missing: dict[str, str] = {}
        self.notes: dict[str, Sequence[str]] = {}
        self.values = (folder / VALUES).open("wb")
        self.times = (folder / TIMES).open("wb")
        self.present: BinaryIO | None = None

    def add(
        self,
        clip_id: str,
        sequence: FeatureSequence,
        missing: str | None,
        present: NDArray[np.bool_] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """The next clip's sequence, and why it has no steps where it has none.

        Args:
            clip_id: of the clip.
            sequence: its steps.
            missing: why there are none.
            present: `(T,)`, which rows are steps and no empty cells; given for every clip of a table or for none.
            notes: what the user should know of it.
        """
        values, times = encode(sequence, self.dtype, clip_id)
        self.values.write(values)
        self.times.write(times)
        if present is not None:
            self.present = self.present or (self.folder / PRESENT).open("wb")
            self.present.write(present.tobytes())
        self.offsets.append(self.offsets[-1] + len(sequence))
        if missing is not None:
            self.missing[clip_id] = missing
        if notes:
            self.notes[clip_id] = notes

    def close(self, **more: Any) -> None:
        """Write what describes the table, and what else is to be said of it; without it the folder is none."""
        for file in filter(None, (self.values, self.times, self.present)):
            sync(file)
            file.close()
        if self.present is not None:
            more["gaps"] = True
        describe(self.folder, self.spec, self.names, self.dtype, self.offsets, self.missing, self.notes, **more)


@contextmanager
def table_writer(
    folder: Path, spec: ExtractorSpec, names: tuple[str, ...], dtype: StoreDtype = "float32", **more: Any
) -> Iterator[TableWriter]:
    """Write a table in one go, beside its final place, and move it there at the end.

    For features that are at hand; what must be extracted first goes through `mmsa.features.load_features`, which goes
    on where it was stopped.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}-*"):  # of writers that were killed, unless one still runs
        if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    partial = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    partial.mkdir()
    writer = TableWriter(partial, spec, names, dtype)
    try:
        yield writer
        writer.close(**more)
        move_into_place(partial, folder)
    finally:
        for file in filter(None, (writer.values, writer.times, writer.present)):
            file.close()
        shutil.rmtree(partial, ignore_errors=True)


def read_description(folder: Path) -> dict[str, Any]:
    """What `store.json` says.

    Raises:
        DamagedTableError: there is none, or it is no table's description.
        UsageError: it was written by another version of mmsa.
    """
    try:
        meta = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        found = meta["format"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedTableError(f"{folder} is no feature table, or a damaged one ({error}): {AGAIN}") from error
    if found != FORMAT:
        raise UsageError(f"{folder} was written by another version of mmsa: {AGAIN}")
    return dict(meta)


def notes_of(description: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """By clip; tables were once made without."""
    return {clip: tuple(own) for clip, own in description.get("notes", {}).items()}


def open_table(folder: Path) -> FeatureTable:
    """Open a finished table; values and times stay on the disk until they are read.

    The store's own tables are shared between corpora and name their clips by position: `missing` and `notes` have the
    keys "0", "1", … then. `load_features` puts the corpus's ids there.

    Raises:
        DamagedTableError: a file of it is missing or cut short.
        UsageError: it was written by another version of mmsa.
    """
    meta = read_description(folder)
    try:
        offsets = np.load(folder / OFFSETS, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedTableError(f"{folder / OFFSETS} cannot be read ({error}): {AGAIN}") from error
    steps, names = int(offsets[-1]), tuple(meta["names"])
    dtype = _numpy(meta.get("dtype", "float32"))
    return FeatureTable(
        spec=ExtractorSpec.from_dict(meta["spec"]),
        names=names,
        values=_map(folder / VALUES, dtype, (steps, len(names))),
        times=_map(folder / TIMES, np.dtype("<f8"), (steps, 2)),
        offsets=offsets,
        missing=meta["missing"],
        notes=notes_of(meta),
        present=_map(folder / PRESENT, np.dtype("?"), (steps, 1))[:, 0] if meta.get("gaps") else None,
        folder=folder,
    )


def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, int]) -> NDArray[Any]:
    expected = shape[0] * shape[1] * dtype.itemsize
    size = path.stat().st_size if path.is_file() else 0
    if size != expected:
        raise DamagedTableError(f"{path} has {size} bytes, but its table needs {expected}: {AGAIN}")
    if 0 in shape:  # an empty file cannot be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", shape=shape)


def summarise_missing(tables: Mapping[str, FeatureTable]) -> Iterator[str]:
    """One sentence per modality that some clips lack, with the most frequent reason."""
    for key, table in tables.items():
        if table.missing:
            reason, count = Counter(table.missing.values()).most_common(1)[0]
            yield f"{len(table.missing)} of {len(table.offsets) - 1} clips lack {key} ({count} × {reason})"


def summarise_notes(tables: Mapping[str, FeatureTable]) -> Iterator[str]:
    """One sentence per modality of which some clips have notes, with the most frequent one."""
    for key, table in tables.items():
        if table.notes:
            note, count = count_notes(table).most_common(1)[0]
            yield f"{len(table.notes)} of {len(table.offsets) - 1} clips have notes on {key} ({count} × {note})"


def count_notes(table: FeatureTable) -> Counter[str]:
    """How many clips have each note."""
    return Counter(note for own in table.notes.values() for note in own)
