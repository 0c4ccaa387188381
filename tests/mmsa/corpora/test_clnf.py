from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mmsa.corpora.clip import Clip
from mmsa.corpora.clnf import KINDS, read_session, store_clnf
from mmsa.errors import UsageError
from mmsa.features import open_table

COLUMNS = {"AUs": ("AU01_r", "AU04_c"), "gaze": ("x_0", "y_0"), "pose": ("Tx",)}
NAMES = tuple(f"{kind}_{column}" for kind in KINDS for column in COLUMNS[kind])
CLIPS = tuple(Clip(str(number), "train", {}) for number in (300, 301, 302))


def write(
    folder: Path, clip: str, frames: Sequence[int], *, faceless: Sequence[int] = (), cut: int | None = None
) -> list[Path]:
    """Ten frames a second; column `c` of frame `f` holds `f + 100 c`. The last file may be cut short."""
    paths = []
    column = 0
    for kind in KINDS:
        own = COLUMNS[kind]
        rows = [f"frame, timestamp, confidence, success, {', '.join(own)}"]
        for f in frames[: cut if kind == "pose" else None]:
            values = ", ".join(str(f + 100 * (column + i)) for i in range(len(own)))
            rows.append(f"{f + 1}, {f / 10:.3f}, 0.95, {0 if f in faceless else 1}, {values}")
        column += len(own)
        path = folder / f"{clip}_CLNF_{kind}.txt"
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def test_a_step_is_the_mean_over_a_second(tmp_path: Path) -> None:
    found = read_session(write(tmp_path, "300", range(25)), NAMES)
    # Frames 0 to 9, 10 to 19, and 20 to 24.
    expected = np.array([4.5, 14.5, 22.0])[:, None] + 100 * np.arange(5)
    assert found.values.tolist() == expected.tolist()
    assert found.times.tolist() == [[0, 1], [1, 2], [2, 3]]


def test_frames_without_a_face_count_for_nothing_and_a_second_of_them_is_a_gap(tmp_path: Path) -> None:
    paths = write(tmp_path, "300", range(30), faceless=[0, 1, *range(10, 20)])
    text = paths[1].read_text().replace("23, 2.200, 0.95, 1, 222,", "23, 2.200, 0.95, 1, -1.#IND,")
    paths[1].write_text(text)
    found = read_session(paths, NAMES)
    assert found.times.tolist() == [[0, 1], [2, 3]]
    # Frames 2 to 9, and 20 to 29 without 22.
    assert found.values[:, 0].tolist() == pytest.approx([5.5, (245 - 22) / 9])


def test_of_files_of_unequal_length_the_frames_of_all_are_used(tmp_path: Path) -> None:
    found = read_session(write(tmp_path, "300", range(30), cut=15), NAMES)
    assert found.values[:, 0].tolist() == [4.5, 12.0]


def test_all_sessions_are_one_table_that_follows_the_files(tmp_path: Path) -> None:
    write(tmp_path, "300", range(10))
    write(tmp_path, "302", range(10), faceless=range(10))
    folders = dict.fromkeys(("300", "301", "302"), tmp_path)
    folder = store_clnf("made", CLIPS, folders)
    table = open_table(folder)
    assert table.names == NAMES
    assert table.offsets.tolist() == [0, 1, 1, 1]
    assert dict(table.missing) == {
        "301": "the session lacks OpenFace's files",
        "302": "no face was found in any frame",
    }
    assert store_clnf("made", CLIPS, folders) == folder
    write(tmp_path, "301", range(20))
    assert store_clnf("made", CLIPS, folders) != folder


def test_files_of_another_form_are_refused(tmp_path: Path) -> None:
    folders = dict.fromkeys(("300", "301", "302"), tmp_path)
    with pytest.raises(UsageError, match=r"no session has OpenFace's files \(300_CLNF_AUs\.txt, 300_CLNF_gaze"):
        store_clnf("made", CLIPS, folders)
    paths = write(tmp_path, "300", range(10))
    other = write(tmp_path, "301", range(10))
    other[0].write_text(other[0].read_text().replace("AU04_c", "AU05_c"))
    with pytest.raises(UsageError, match=r"301_CLNF_AUs\.txt and the files beside it have other columns"):
        store_clnf("made", CLIPS, folders)
    other[0].unlink()
    paths[1].write_text(paths[1].read_text().replace("\n3, ", "\n33, "))
    with pytest.raises(UsageError, match=r"300_CLNF_AUs\.txt and the files beside it have different frames"):
        store_clnf("made", CLIPS, folders)
    paths[1].write_text("frame, timestamp, confidence, success, x_0, y_0\n1, 0, 1, 1, no, 2\n")
    with pytest.raises(UsageError, match=r"300_CLNF_gaze\.txt is not a table of numbers"):
        store_clnf("made", CLIPS, folders)
    paths[1].write_text("x_0, y_0\n1, 2\n")
    with pytest.raises(UsageError, match=r"300_CLNF_gaze\.txt must have the columns frame, timestamp"):
        store_clnf("made", CLIPS, folders)
