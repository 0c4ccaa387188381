"""Standard folds: which videos are trained, validated and tested on, from a file that is not run.

They come with the CMU-MultimodalSDK (`cmu_mosi_std_folds.py`: three lists of video ids), with MMSA's `label.csv`, or in
a small JSON file. mmsa carries none of them.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmsa.corpora.clip import SPLITS, Split
from mmsa.corpora.label_csv import MODES
from mmsa.corpora.rows import read_rows
from mmsa.errors import UsageError

NAMES = ("folds.json", "split.json", "splits.json", "standard_folds.json", "standard_folds.py", "label.csv")
"""Files that are looked for beside computational sequences, after `*std_folds.py`."""

MAX_BYTES = 2**24
WAYS = (
    "the SDK's own list (mmsdk/mmdatasdk/dataset/standard_datasets/CMU_MOSI/cmu_mosi_std_folds.py, or CMU_MOSEI's), "
    'MMSA\'s label.csv, or folds.json: {"train": [video ids], "valid": […], "test": […]}'
)


def find_folds(folder: Path) -> Path:
    """The file in a folder that says which video is in which split.

    Raises:
        UsageError: there is none, or several of the SDK's kind.
    """
    found = sorted(folder.glob("*std_folds.py"))
    if len(found) > 1:
        raise UsageError(f"{folder} holds {', '.join(path.name for path in found)}: name one with --folds")
    found += [path for name in NAMES if (path := folder / name).is_file()]
    if not found:
        raise UsageError(
            f"{folder} does not say which video is in which split: put there, or give with --folds, {WAYS}"
        )
    return found[0]


def read_folds(path: Path) -> dict[str, Split]:
    """The split by video.

    Args:
        path: a Python file with lists of strings, read as text and never run; a JSON object of such lists; or a table
            with the columns `video_id` and `mode`.

    Raises:
        UsageError: it cannot be read, names no video for a split, or a video for two.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}: give {WAYS}")
    if path.stat().st_size > MAX_BYTES and path.suffix != ".csv":
        raise UsageError(f"{path} has {path.stat().st_size:,} bytes, too many for lists of videos")
    pairs = list(_from_table(path) if path.suffix == ".csv" else _from_lists(path))
    folds: dict[str, Split] = {}
    for video, split in pairs:
        if folds.setdefault(video, split) != split:
            raise UsageError(f"{path} puts the video {video} into both {folds[video]} and {split}")
    empty = [split for split in SPLITS if split not in folds.values()]
    if empty:
        raise UsageError(f"{path} names no video for {' and '.join(empty)}: give {WAYS}")
    return folds


def _from_table(path: Path) -> Iterable[tuple[str, Split]]:
    for row in read_rows(path, ("video_id", "mode")):
        if row["mode"].lower() not in MODES:
            raise row.error("mode", f"must be one of {', '.join(MODES)}, not {row['mode']!r}")
        yield row["video_id"], MODES[row["mode"].lower()]


def _from_lists(path: Path) -> Iterable[tuple[str, Split]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        lists = _python_lists(text) if path.suffix == ".py" else json.loads(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(lists, Mapping):
        raise UsageError(f"{path} must hold an object with the lists train, valid and test")
    for name, videos in lists.items():
        mode = next((mode for mode in MODES if mode in name.lower().split("_")), None)
        if mode is None:
            continue
        if not isinstance(videos, list | tuple) or not all(isinstance(video, str) for video in videos):
            raise UsageError(f"{path}: {name} must be a list of video ids")
        yield from ((video, MODES[mode]) for video in videos)


def _python_lists(text: str) -> dict[str, object]:
    """What a Python file assigns to names, where it is written out; nothing of it is run."""
    found: dict[str, object] = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.List | ast.Tuple):
            found |= {t.id: ast.literal_eval(statement.value) for t in statement.targets if isinstance(t, ast.Name)}
    return found
