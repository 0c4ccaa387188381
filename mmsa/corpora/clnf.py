"""OpenFace's features as DAIC-WOZ gives them out: `300_CLNF_AUs.txt`, `300_CLNF_gaze.txt` and `300_CLNF_pose.txt`.

Each is a table with the columns `frame, timestamp, confidence, success` and then the features of every frame (thirty a
second): action units, directions of gaze, place and turn of the head. A session has tens of thousands of frames, more
than a model reads: a step here is the mean over the frames of one second in which the face was found. A second without
such a frame is a gap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from mmsa.corpora.clip import Clip
from mmsa.corpora.imported import write_sequences
from mmsa.errors import UsageError
from mmsa.paths import cache_dir
from mmsa.precomputed import precomputed_spec
from mmsa.progress import track

UNDEFINED = ("-1.#IND", "1.#IND", "-1.#QNAN", "1.#QNAN", "-nan(ind)")
"""How the Windows programs that wrote the files spell what is no number."""

KINDS = ("AUs", "gaze", "pose")
COMMON = ("frame", "timestamp", "confidence", "success")
STEP_SECONDS = 1.0


def store_clnf(corpus: str, clips: Sequence[Clip], folders: Mapping[str, Path]) -> Path:
    """Put the features of all sessions into the cache, where they are not there yet.

    Args:
        corpus: its name.
        clips: all of them, in order; the id is the session's number.
        folders: by clip id, where the session's files lie.

    Returns:
        The table's folder; it changes when a file does.

    Raises:
        UsageError: no session has such files, or one is not as it must be.
    """
    files = {clip.id: [folders[clip.id] / f"{clip.id}_CLNF_{kind}.txt" for kind in KINDS] for clip in clips}
    whole = {clip for clip, paths in files.items() if all(path.is_file() for path in paths)}
    if not whole:
        named = ", ".join(f"{clips[0].id}_CLNF_{kind}.txt" for kind in KINDS)
        raise UsageError(f"no session has OpenFace's files ({named}, …): use the corpus without them")
    stamps = [[clip, *((p.stat().st_size, p.stat().st_mtime_ns) for p in files[clip])] for clip in sorted(whole)]
    digest = hashlib.sha256(json.dumps([[clip.id for clip in clips], stamps]).encode()).hexdigest()
    folder = cache_dir() / "features" / f"{corpus}-clnf" / f"vision-{digest[:16]}"
    if not (folder / "store.json").is_file():
        names = _names(files[min(whole)])
        spec = precomputed_spec("DAIC-WOZ's CLNF files", digest, modality="vision", step_seconds=STEP_SECONDS)
        write_sequences(folder, spec, names, _sequences(clips, files, whole, names))
    return folder


def _sequences(
    clips: Sequence[Clip], files: Mapping[str, Sequence[Path]], whole: set[str], names: tuple[str, ...]
) -> Iterator[tuple[str, FeatureSequence, str]]:
    for clip in track(clips, "Reading OpenFace's features", len(clips)):
        if clip.id not in whole:
            yield clip.id, FeatureSequence.empty(names), "the session lacks OpenFace's files"
            continue
        if _names(files[clip.id]) != names:
            raise UsageError(f"{files[clip.id][0]} and the files beside it have other columns than the other sessions'")
        yield clip.id, read_session(files[clip.id], names), "no face was found in any frame"


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The features' names: what kind, and the column."""
    found: list[str] = []
    for kind, path in zip(KINDS, paths, strict=True):
        with path.open(encoding="utf-8", errors="replace") as file:
            columns = tuple(name.strip() for name in file.readline(100_000).split(","))
        if columns[: len(COMMON)] != COMMON or len(columns) == len(COMMON):
            raise UsageError(
                f"{path} must have the columns {', '.join(COMMON)} and features, not {', '.join(columns[:6])}"
            )
        found += [f"{kind}_{name}" for name in columns[len(COMMON) :]]
    return tuple(found)


def read_session(paths: Sequence[Path], names: tuple[str, ...]) -> FeatureSequence:
    """The features of a session, one step a second.

    Args:
        paths: its three files.
        names: `D` features, as their headers have them.

    Raises:
        UsageError: a file holds what is no number, or the three have different frames.
    """
    tables = [_read(path) for path in paths]
    frames = min(len(table) for table in tables)  # one may be cut short
    stamps, values = tables[0][:frames, 1], np.concatenate([table[:frames, len(COMMON) :] for table in tables], axis=1)
    if any(not np.array_equal(table[:frames, 0], tables[0][:frames, 0]) for table in tables):
        raise UsageError(f"{paths[0]} and the files beside it have different frames")
    success = np.min([table[:frames, 3] for table in tables], axis=0) > 0
    use = success & np.isfinite(values).all(axis=1) & np.isfinite(stamps)
    seconds, place = np.unique(np.floor(stamps[use] / STEP_SECONDS), return_inverse=True)
    sums = np.zeros((len(seconds), len(names)))
    np.add.at(sums, place, values[use])
    means = sums / np.maximum(1, np.bincount(place, minlength=len(seconds)))[:, np.newaxis]
    times = np.stack([seconds, seconds + 1], axis=1) * STEP_SECONDS
    return FeatureSequence(means.astype(np.float32), times.astype(np.float64), names)


def _read(path: Path) -> NDArray[Any]:
    import pandas as pd

    try:
        table = pd.read_csv(
            path, skipinitialspace=True, na_values=["-1.#IND", "1.#IND", "-1.#QNAN", "1.#QNAN", "-nan(ind)"]
        )
        return table.to_numpy(np.float64)
    except (ValueError, OSError) as error:  # pandas' own errors are among these
        raise UsageError(f"{path} is not a table of numbers: {error}") from None
