"""Small files in the layouts that corpora are released in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest


def _write_csd(path: Path, name: str, entries: Mapping[str, tuple[Any, Any]], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        root = file.create_group(name)
        data = root.create_group("data")
        for entry, (features, intervals) in entries.items():
            group = data.create_group(entry)
            group.create_dataset("features", data=np.asarray(features), **options)
            group.create_dataset("intervals", data=np.asarray(intervals, np.float64), **options)
        metadata = root.create_group("metadata")
        for key, value in {"root name": name, "dataset name": "made", "md5": None}.items():
            cell = metadata.create_dataset(key, (1,), dtype=h5py.string_dtype())
            cell[0] = json.dumps(value)
    return path


def _steps(values: Any, start: float, step: float) -> tuple[Any, Any]:
    values = np.asarray(values, np.float64)
    begins = start + step * np.arange(len(values))
    return values, np.stack([begins, begins + step], axis=1)


def _words(*said: tuple[str, float, float]) -> tuple[Any, Any]:
    return np.array([[text.encode()] for text, _, _ in said], "S32"), np.array([times for _, *times in said])


@pytest.fixture
def csd() -> SimpleNamespace:
    """Computational sequences as the CMU-MultimodalSDK writes them.

    `write(path, name, {entry: (features, intervals)}, **options of h5py's datasets)`; `steps(values, start, step)` and
    `words((text, start, end), …)` give features with their intervals.
    """
    return SimpleNamespace(write=_write_csd, steps=_steps, words=_words)
