from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora.clip import Clip
from mmsa.corpora.utterances import store_utterances
from mmsa.errors import UsageError
from mmsa.features import open_table

CLIPS = [
    Clip(f"v$_${i}", split, {})
    for i, split in enumerate(["train"] * 6 + ["valid"] * 3 + ["test"] * 5)  # type: ignore[misc]
]


def write(path: Path, **changes: Any) -> Path:
    """A vector `(i, -i)` for every clip but the last one, and one for a clip that is not there."""
    ids = [f"v_{i}" for i in range(len(CLIPS) - 1)] + ["elsewhere_1"]
    arrays = {"ids": np.array(ids), "features": np.array([[i, -i] for i in range(len(ids))], float)}
    np.savez(path, **{**arrays, **changes})
    return path


def stored(path: Path, seed: int | None = None) -> np.ndarray:
    table = open_table(store_utterances("made", "audio", CLIPS, path, seed))
    assert table.names == ("audio_0", "audio_1")
    assert np.diff(table.offsets).tolist() == [1] * (len(CLIPS) - 1) + [0]
    assert dict(table.missing) == {CLIPS[-1].id: "no vector in the file"}
    return np.asarray(table.values)


def test_each_clip_gets_its_vector_as_one_step(tmp_path: Path) -> None:
    values = stored(write(tmp_path / "a.npz"))
    assert np.array_equal(values, [[i, -i] for i in range(len(CLIPS) - 1)])


def test_shuffled_vectors_stay_whole_and_in_their_split(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz")
    values = stored(path, 0)
    assert np.array_equal(values[:, 0], -values[:, 1])
    for first, last in ((0, 6), (6, 9), (9, 13)):
        assert sorted(values[first:last, 0]) == list(range(first, last))
    assert not np.array_equal(values, stored(path))
    assert not np.array_equal(values, stored(path, 1))
    assert np.array_equal(values, stored(path, 0))


def test_the_table_is_made_once_and_anew_when_anything_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz")
    folder = store_utterances("made", "audio", CLIPS, path)
    stamp = (folder / "store.json").stat().st_mtime_ns
    assert store_utterances("made", "audio", CLIPS, path) == folder
    assert (folder / "store.json").stat().st_mtime_ns == stamp
    others = {
        store_utterances("made", "audio", CLIPS, path, 0),
        store_utterances("made", "audio", CLIPS[:-1], path),
        store_utterances("made", "audio", CLIPS, write(tmp_path / "b.npz", features=np.ones((len(CLIPS), 2)))),
    }
    assert len({folder, *others}) == 4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"features": np.ones((3, 2))}, "ids must be"),
        ({"features": np.ones(len(CLIPS))}, "ids must be"),
        ({"ids": np.arange(len(CLIPS))}, "ids must be"),
        ({"features": np.full((len(CLIPS), 2), np.nan)}, "must be finite numbers"),
        ({"ids": np.array(["v_1"] * len(CLIPS))}, "each id must stand there once"),
        ({"ids": np.array(["v_1"] * len(CLIPS), object)}, "plain arrays `ids` and `features`"),
    ],
)
def test_files_that_are_not_as_they_must_be(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        store_utterances("made", "audio", CLIPS, write(tmp_path / "a.npz", **changes))


def test_no_file_no_archive_and_no_clip_of_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        store_utterances("made", "audio", CLIPS, tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(UsageError, match=r"must be an \.npz archive"):
        store_utterances("made", "audio", CLIPS, tmp_path / "text.npz")
    np.savez(tmp_path / "c.npz", ids=np.array(["x_1"]), features=np.ones((1, 2)))
    with pytest.raises(UsageError, match="none of the file's ids is that of a clip"):
        store_utterances("made", "audio", CLIPS, tmp_path / "c.npz")
