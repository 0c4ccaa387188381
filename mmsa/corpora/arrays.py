"""Other modalities (EEG, ECG, …) of a table: one `.npy` file per clip, read once into the feature store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.clip import Clip
from mmsa.errors import UsageError
from mmsa.paths import cache_dir
from mmsa.precomputed import precomputed_spec, write_precomputed

Files = Mapping[str, Path]
SHOWN = 20


def store_arrays(corpus: str, clips: Sequence[Clip], arrays: Mapping[str, Files]) -> dict[str, Path]:
    """Copy each clip's arrays into feature tables in the cache, where they are not there yet.

    Args:
        corpus: its name.
        clips: all of them, in order.
        arrays: by modality and clip id, a `.npy` file with `(T, D)` finite numbers, `T` of any length and `D` the
            same in all; `(T,)` is read as `(T, 1)`. Nothing in the files is run.

    Returns:
        The tables' folders by modality; they change when a file does.

    Raises:
        UsageError: files are missing, or not as they must be; all are named at once.
    """
    folders = {}
    for key, files in arrays.items():
        stamps = [[clip.id, *_stamp(files.get(clip.id))] for clip in clips]
        digest = hashlib.sha256(json.dumps([key, stamps]).encode()).hexdigest()
        folders[key] = cache_dir() / "features" / f"{corpus}-arrays" / f"{key}-{digest[:16]}"
        if not (folders[key] / "store.json").is_file():
            width = _check(key, files)
            spec = precomputed_spec(f"arrays of {corpus}", digest, modality=key)
            names = tuple(f"{key}_{i}" for i in range(width))
            write_precomputed(folders[key], spec, names, _sequences(clips, files, width))
    return folders


def _stamp(path: Path | None) -> list[Any]:
    if path is None or not path.is_file():
        return [None]
    return [str(path), path.stat().st_size, path.stat().st_mtime_ns]


def _check(key: str, files: Files) -> int:
    """The width `D` that all files share.

    Raises:
        UsageError: they do not, or are not as they must be otherwise.
    """
    widths: dict[str, int] = {}
    problems = []
    for clip, path in files.items():
        try:
            widths[clip] = _read(path).shape[1]
        except (ValueError, OSError, EOFError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            problems.append(f"clip {clip}: {path}: {reason}")
    common = max(set(widths.values()), key=list(widths.values()).count, default=0)
    problems += [f"clip {c}: {files[c]}: {n} features, others have {common}" for c, n in widths.items() if n != common]
    if not widths and not problems:
        problems.append("no clip names a file")
    if problems:
        rest = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UsageError(f"the {key} arrays are not valid:\n" + "\n".join(f"  {p}" for p in problems[:SHOWN]) + rest)
    return common


def _read(path: Path) -> NDArray[np.float32]:
    """`(T, D)` float32.

    Raises:
        ValueError: no `.npy` file of one or two dimensions of finite numbers.
        OSError: it cannot be read.
    """
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it must be a .npy file, not an archive of several")
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise ValueError(f"it must hold (T, D) numbers, not {array.shape} {array.dtype}")
    values = np.ascontiguousarray(array.reshape(len(array), -1), np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it must hold finite numbers: leave such steps out")
    return values


def _sequences(clips: Sequence[Clip], files: Files, width: int) -> Iterator[tuple[str, NDArray[np.float32], str]]:
    for clip in clips:
        path = files.get(clip.id)
        values = _read(path) if path is not None else np.zeros((0, width), np.float32)
        yield clip.id, values, "no array" if path is None else "an array without steps"
