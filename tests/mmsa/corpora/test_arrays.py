from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora.arrays import store_arrays
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.precomputed import open_precomputed

CLIPS = tuple(Clip(name, "train", {}) for name in ("a", "b", "c"))


def save(folder: Path, **arrays: Any) -> dict[str, Path]:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return {name: folder / f"{name}.npy" for name in arrays}


def values(folders: dict[str, Path], modality: str) -> list[Any]:
    table = open_precomputed(Corpus("made", CLIPS, (), features=folders), modality)
    return [table.sequence(i).values.tolist() for i in range(len(CLIPS))]


def test_arrays_are_read_in_the_order_of_the_clips(tmp_path: Path) -> None:
    files = save(tmp_path, c=np.array([[5, 6]]), a=np.array([[1.0, 2.0], [3.0, 4.0]]))
    flat = save(tmp_path, b=np.array([True, False]))
    folders = store_arrays("made", CLIPS, {"eeg": files, "key": flat})
    assert values(folders, "eeg") == [[[1, 2], [3, 4]], [], [[5, 6]]]
    assert values(folders, "key") == [[], [[1], [0]], []]


def test_a_changed_file_is_read_again_and_others_are_not(tmp_path: Path) -> None:
    files = save(tmp_path, a=np.ones((1, 1)))
    first = store_arrays("made", CLIPS, {"eeg": files})
    assert store_arrays("made", CLIPS, {"eeg": files}) == first
    save(tmp_path, a=np.ones((2, 1)))
    second = store_arrays("made", CLIPS, {"eeg": files})
    assert second != first
    assert values(second, "eeg")[0] == [[1], [1]]


def test_all_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    files = save(
        tmp_path,
        a=np.ones((2, 3)),
        b=np.ones((4, 3)),
        c=np.ones((4, 2)),
        d=np.ones((1, 2, 3)),
        e=np.array([[np.nan] * 3]),
        f=np.array(["x"]),
        g=np.array([{}], dtype=object),
    )
    files["h"] = tmp_path / "gone.npy"
    np.savez(tmp_path / "i.npz", x=np.ones(3))
    files["i"] = tmp_path / "i.npz"
    (tmp_path / "j.npy").write_bytes(b"not numpy")
    files["j"] = tmp_path / "j.npy"
    with pytest.raises(UsageError, match="the eeg arrays are not valid") as caught:
        store_arrays("made", CLIPS, {"eeg": files})
    lines = {line.strip().split(":")[0]: line for line in str(caught.value).splitlines()[1:]}
    expected = {
        "clip c": "2 features, others have 3",
        "clip d": "must hold (T, D) numbers, not (1, 2, 3) float64",
        "clip e": "must hold finite numbers",
        "clip f": "must hold (T, D) numbers",
        "clip g": "Object arrays cannot be loaded",
        "clip h": "No such file",
        "clip i": "not an archive of several",
        "clip j": "",
    }
    assert set(lines) == set(expected)
    for clip, message in expected.items():
        assert message in lines[clip]


def test_a_column_without_any_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no clip names a file"):
        store_arrays("made", CLIPS, {"eeg": {}})
