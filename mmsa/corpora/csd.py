"""Computational sequences: the `.csd` files (HDF5) of the CMU-MultimodalSDK, read as if an enemy had made them.

A file holds one group, named after the sequence, with `data/<entry>/features` `(T, D)`, `data/<entry>/intervals`
`(T, 2)` (seconds from the beginning of the video) and `metadata`. An entry is a video (`-3g5yACwYnA`) or one stretch of
it (`-3g5yACwYnA[4]`, as alignment in the SDK leaves them). Features are numbers, or words, which the SDK stores as
strings `(T, 1)` with `sp` for a pause.

HDF5 can point outside of its file and can announce far more than it holds. What such a file needs is left out here:
links other than hard ones, data kept in other files, virtual datasets, types other than numbers and strings, filters
other than HDF5's and h5py's own, and shapes beyond what is read at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.memory import memory_limit
from mmsa.errors import UsageError

if TYPE_CHECKING:
    import h5py

MAX_STEPS = 20_000_000
"""Longest entry: 55 hours of COVAREP's hundred steps a second."""

MAX_BYTES = 2**30
"""Most that is read at once: the features of one clip, or the times of one video."""

MAX_CHUNK_BYTES = 2**28
"""Largest chunk, which HDF5 unpacks whole however little of it is asked for."""

MAX_EXTRA_BYTES = 2**32
"""Most memory that reading may take beside what is held: HDF5 goes round in circles where a file's headers do."""

MAX_WORD_BYTES = 4096

FILTERS = frozenset({1, 2, 3, 32000})
"""Deflate, shuffle, checksum, and h5py's LZF: others would be looked for in libraries outside of mmsa."""

EPSILON_SECONDS = 1e-5
"""Steps that share less with a stretch are not in it, as in the SDK's alignment."""

PAUSE = "sp"
Array = NDArray[Any]


class _RefusedError(Exception):
    """The file holds what is never read from one."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """What lies in a stretch of a video.

    Attributes:
        values: `(T, D)` float32, in which infinite and undefined values are 0.
        times: `(T, 2)` float64 seconds from the beginning of the video, within the stretch, sorted by start.
        not_finite: how many values were infinite or undefined.
    """

    values: NDArray[np.float32]
    times: NDArray[np.float64]
    not_finite: int


class ComputationalSequence:
    """An open `.csd` file; `open_csd` makes one.

    Attributes:
        path: the file.
        name: of the sequence, as the file says it.
        videos: by video, the entries of it that the file has, in the order of their numbers.
        width: `D`; 1 for words.
        are_words: whether the features are strings.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.name, self._data = _root(file)
        self.videos = _by_video(self._data)
        self.width, self.are_words = self._survey()
        self._kept: tuple[str, list[tuple[str, h5py.Dataset, Array]]] = ("", [])

    def _survey(self) -> tuple[int, bool]:
        """The width that all entries share, and whether they are words; every shape is checked."""
        found: dict[tuple[int, bool], str] = {}
        for entry in self._data:
            features, steps = self._datasets(entry)
            width = features.shape[-1]
            found.setdefault((width, features.dtype.kind not in "fiu"), entry)
            if features.ndim == 2 and features.shape[0] != steps:
                raise _RefusedError(f"entry {entry}: {features.shape[0]} features but {steps} intervals")
        if len(found) != 1:
            told = ", ".join(f"{'words' if w else n} ({entry})" for (n, w), entry in list(found.items())[:3])
            raise _RefusedError(f"its entries differ in their features: {told}" if found else "it has no entries")
        return next(iter(found))

    def _datasets(self, entry: str) -> tuple[h5py.Dataset, int]:
        """The features of an entry, and how many steps it has."""
        group = _group(self._data, entry)
        features, intervals = _dataset(group, "features"), _dataset(group, "intervals")
        if intervals.shape == (2,) and features.ndim == 1:  # the SDK reads such entries as one step
            return features, 1
        if intervals.ndim != 2 or intervals.shape[1] != 2 or intervals.dtype.kind not in "fiu":
            raise _RefusedError(f"entry {entry}: intervals must be (T, 2) numbers, not {intervals.shape}")
        if features.ndim != 2 or not 1 <= features.shape[1] <= 2**20:
            raise _RefusedError(f"entry {entry}: features must be (T, D), not {features.shape}")
        if intervals.shape[0] > MAX_STEPS:
            raise _RefusedError(
                f"entry {entry}: {intervals.shape[0]:,} steps, more than the {MAX_STEPS:,} that are read"
            )
        return features, intervals.shape[0]

    def intervals(self, entry: str) -> NDArray[np.float64]:
        """`(T, 2)` seconds of an entry; NaN where one is not finite.

        Raises:
            UsageError: it cannot be read.
        """
        with self._explained(entry):
            read = np.asarray(_dataset(_group(self._data, entry), "intervals")[()], np.float64).reshape(-1, 2)
            return np.where(np.isfinite(read).all(axis=1, keepdims=True), read, np.nan)

    def features(self, entry: str) -> Array:
        """All features of an entry, `(T, D)` float64: for labels, which are few.

        Raises:
            UsageError: they are words, or too many, or cannot be read.
        """
        with self._explained(entry):
            found, steps = self._datasets(entry)
            return self._numbers(found, 0, steps).astype(np.float64)

    def between(self, video: str, start_seconds: float, end_seconds: float) -> Stretch:
        """What lies in a stretch of a video; no steps where the file does not have it.

        Raises:
            UsageError: it cannot be read, or is too much to read at once.
        """
        values, times = [np.zeros((0, self.width), np.float64)], [np.zeros((0, 2))]
        for entry, features, index, own in self._steps(video, start_seconds, end_seconds):
            with self._explained(entry):
                first, stop = int(index.min()), int(index.max()) + 1
                values.append(self._numbers(features, first, stop)[index - first])
                times.append(own)
        order = np.argsort(np.concatenate(times)[:, 0], kind="stable")
        with np.errstate(over="ignore", invalid="ignore"):
            read = np.concatenate(values)[order].astype(np.float32)
        bad = ~np.isfinite(read)
        read[bad] = 0.0
        return Stretch(read, np.concatenate(times)[order], int(bad.sum()))

    def words(self, video: str, start_seconds: float, end_seconds: float) -> list[str]:
        """The words of a stretch of a video, in the order of their times, without pauses.

        Raises:
            UsageError: they cannot be read.
        """
        said: list[tuple[float, str]] = []
        for entry, features, index, own in self._steps(video, start_seconds, end_seconds):
            with self._explained(entry):
                read = self._strings(features, int(index.min()), int(index.max()) + 1)
                said += [(float(at), read[i - int(index.min())]) for i, at in zip(index, own[:, 0], strict=True)]
        said.sort(key=lambda word: word[0])
        return [word for _, word in said if word and word != PAUSE]

    def _steps(
        self, video: str, start: float, end: float
    ) -> Iterator[tuple[str, h5py.Dataset, NDArray[np.int64], Array]]:
        """By entry: its features, the positions of those that share time with a stretch, and the times they share."""
        if self._kept[0] != video:  # one video at once: its clips are asked for one after the other
            self._kept = (video, [self._opened(entry) for entry in self.videos.get(video, ())])
        for entry, features, times in self._kept[1]:
            shared = np.stack([np.maximum(times[:, 0], start), np.minimum(times[:, 1], end)], axis=1)
            index = np.flatnonzero(shared[:, 1] - shared[:, 0] > EPSILON_SECONDS)  # False for NaN
            if len(index):
                yield entry, features, index.astype(np.int64), shared[index]

    def _opened(self, entry: str) -> tuple[str, h5py.Dataset, Array]:
        times = self.intervals(entry)
        with self._explained(entry):
            return entry, self._datasets(entry)[0], times

    def _numbers(self, features: h5py.Dataset, first: int, stop: int) -> Array:
        if features.dtype.kind not in "fiu":
            raise _RefusedError(f"features must be numbers, not {features.dtype}")
        size = (stop - first) * self.width * features.dtype.itemsize
        if size > MAX_BYTES:
            raise _RefusedError(f"{size:,} bytes of features at once, more than the {MAX_BYTES:,} that are read")
        read: Array = features[()] if features.ndim == 1 else features[first:stop]
        return read.reshape(-1, self.width)

    def _strings(self, features: h5py.Dataset, first: int, stop: int) -> list[str]:
        if features.dtype.kind in "fiu":
            raise _RefusedError(f"words must be strings, not {features.dtype}")
        if features.shape[-1] != 1:
            raise _RefusedError(f"words must be (T, 1), not {features.shape}")
        # A string of any length may be named by every step: so many are read at once that a gigabyte holds them.
        at_once = max(1, MAX_BYTES // max(1, self.path.stat().st_size))
        if features.dtype.kind == "S":
            at_once = max(1, MAX_BYTES // max(1, features.dtype.itemsize))
        said: list[str] = []
        for begin in range(first, stop, at_once):
            read = features[()] if features.ndim == 1 else features[begin : min(begin + at_once, stop)]
            said += [_word(item) for item in read.reshape(-1)]
        return said

    @contextmanager
    def _explained(self, entry: str) -> Iterator[None]:
        with _explained(self.path, f"entry {entry}: "):
            yield


@contextmanager
def open_csd(path: Path | str) -> Iterator[ComputationalSequence]:
    """Open a computational sequence; its layout is checked, its features stay on the disk until they are asked for.

    Args:
        path: the `.csd` file.

    Raises:
        UsageError: it cannot be read, is cut short, or holds what is never read from one.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no file {path}")
    with memory_limit(MAX_EXTRA_BYTES):
        with _explained(path):
            file = h5py.File(path, "r")
        with file:
            with _explained(path):
                sequence = ComputationalSequence(path, file)
            yield sequence


@contextmanager
def _explained(path: Path, place: str = "") -> Iterator[None]:
    """Turn what h5py raises into a message that says what to do."""
    try:
        yield
    except _RefusedError as error:
        raise UsageError(f"{path} is not a computational sequence that is read: {place}{error}") from None
    except MemoryError:
        raise UsageError(f"{path}: {place}more memory than {MAX_EXTRA_BYTES:,} bytes is needed to read it") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, UsageError):
            raise
        why = "it is cut short: " if "truncated" in str(error) else ""
        raise UsageError(f"cannot read {path}: {place}{why}{str(error)[:200]}. Fetch it again?") from None


def _root(file: h5py.File) -> tuple[str, h5py.Group]:
    names = list(file)
    if len(names) != 1:
        raise _RefusedError(f"it must hold one group, named after the sequence, not {len(names)}")
    return _shown(names[0]), _group(_group(file, names[0]), "data")


def _by_video(data: h5py.Group) -> Mapping[str, tuple[str, ...]]:
    videos: dict[str, list[str]] = {}
    for entry in data:
        if not isinstance(entry, str) or not entry.isprintable():  # names that are no UTF-8 come as bytes
            raise _RefusedError(f"an entry is called {_shown(entry)!r}")
        videos.setdefault(entry.split("[")[0], []).append(entry)
    return {video: tuple(sorted(entries, key=entry_number)) for video, entries in videos.items()}


def entry_number(entry: str) -> int:
    """The number of a stretch; that of a whole video is -1.

    Example:
        >>> entry_number("-3g5yACwYnA[4]"), entry_number("-3g5yACwYnA")
        (4, -1)
    """
    number = entry.partition("[")[2].rstrip("]")
    return int(number) if number.isascii() and number.isdigit() else -1


def _child(group: h5py.Group, name: str) -> Any:
    """A member of a group that lies in the same file and was put there, not pointed to."""
    import h5py

    if name not in group:
        raise _RefusedError(f"{_shown(group.name)} has no {name!r}")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise _RefusedError(f"{_shown(name)} in {_shown(group.name)} is a link to another place or file")
    return group[name]


def _group(group: h5py.Group, name: str) -> h5py.Group:
    import h5py

    found = _child(group, name)
    if not isinstance(found, h5py.Group):
        raise _RefusedError(f"{_shown(name)} in {_shown(group.name)} is no group")
    return found


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    import h5py

    found = _child(group, name)
    place = f"{name} in {_shown(group.name)}"
    if not isinstance(found, h5py.Dataset):
        raise _RefusedError(f"{place} is no dataset")
    if found.external or found.is_virtual:
        raise _RefusedError(f"{place} keeps its data in other files")
    if found.dtype.kind not in "fiuS" and h5py.check_string_dtype(found.dtype) is None:
        raise _RefusedError(f"{place} holds {found.dtype}: only numbers and strings are read")
    if found.dtype.itemsize > MAX_WORD_BYTES or found.dtype.subdtype is not None:
        raise _RefusedError(f"{place} has items of {found.dtype.itemsize:,} bytes")
    if not isinstance(found.shape, tuple) or not 1 <= found.ndim <= 2:
        raise _RefusedError(f"{place} must be (T, D), not {found.shape}")
    if found.chunks and math.prod(found.chunks) * found.dtype.itemsize > MAX_CHUNK_BYTES:
        raise _RefusedError(f"{place} has chunks of {found.chunks} items")
    pipeline = found.id.get_create_plist()
    unknown = {pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters())} - FILTERS
    if unknown:
        raise _RefusedError(f"{place} is packed with filter {min(unknown)}, which is not one of HDF5's own")
    return found


def _word(item: bytes | str) -> str:
    text = item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
    if len(text) > MAX_WORD_BYTES:
        raise _RefusedError(f"a word of {len(text):,} letters")
    return " ".join(text.split())


def _shown(text: object) -> str:
    """What a file says, fit for a terminal."""
    return str(text)[:200].encode("unicode_escape").decode("ascii")
