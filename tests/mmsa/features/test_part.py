from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsa.features.part
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from mmsa.features.part import Part, discard, part_folder
from mmsa.features.rows import Stored
from mmsa.features.table import StoreDtype, open_table

SPEC = ExtractorSpec("made.one", "none", "1", {})
NAMES = ("x", "y", "z")
LENGTHS = (3, 0, 1, 4, 2)
NOTES = {1: ("1 damaged frame was left out",), 3: ("the first", "größer")}
DIGESTS = [bytes([i]) * 16 for i in range(len(LENGTHS))]


def sequence(clip: int) -> FeatureSequence:
    """Numbers that say which clip, step and feature they are."""
    steps = np.arange(LENGTHS[clip], dtype=np.float64)
    values = 100 * clip + 10 * steps[:, None] + np.arange(3)
    return FeatureSequence(values.astype(np.float32), np.stack([steps, steps + 1], axis=1), NAMES)


def fill(part: Part, count: int = len(LENGTHS)) -> None:
    for clip in range(len(part), count):
        part.add(Stored(sequence(clip), None if LENGTHS[clip] else "silent", NOTES.get(clip, ())), str(clip))


def open_part(table: Path, dtype: StoreDtype = "float32") -> Part:
    return Part(table, SPEC, NAMES, dtype, DIGESTS)


def whole(table: Path, dtype: StoreDtype = "float32") -> dict[str, bytes]:
    """The files of a table that was made in one go."""
    part = open_part(table, dtype)
    fill(part)
    part.finish("made")
    return contents(table)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_finished_part_is_a_table(tmp_path: Path) -> None:
    whole(tmp_path / "group" / "one")
    table = open_table(tmp_path / "group" / "one")
    for clip in range(len(LENGTHS)):
        np.testing.assert_array_equal(table.sequence(clip).values, sequence(clip).values)
        np.testing.assert_array_equal(table.sequence(clip).times, sequence(clip).times)
    assert table.offsets.tolist() == [0, 3, 3, 4, 8, 10]
    assert table.missing == {"1": "silent"}
    assert table.notes == {"1": ("1 damaged frame was left out",), "3": ("the first", "größer")}
    assert [path.name for path in (tmp_path / "group").iterdir()] == ["one"]


def test_half_a_table_cannot_be_finished(tmp_path: Path) -> None:
    part = open_part(tmp_path / "one")
    fill(part, 3)
    with pytest.raises(ValueError, match="3 of 5 clips were added"):
        part.finish("made")
    part.close()
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("count", range(len(LENGTHS) + 1))
def test_a_stopped_part_goes_on(tmp_path: Path, count: int, dtype: StoreDtype) -> None:
    expected = whole(tmp_path / "expected", dtype)
    first = open_part(tmp_path / "one", dtype)
    fill(first, count)
    del first  # killed: neither closed nor finished
    second = open_part(tmp_path / "one", dtype)
    assert (len(second), second.kept) == (count, count)
    fill(second)
    second.finish("made")
    assert contents(tmp_path / "one") == expected


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return whole(tmp_path_factory.mktemp("expected") / "one")


@settings(derandomize=True, max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_disk_kept_of_a_killed_part_the_table_is_the_same(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, expected: dict[str, bytes]
) -> None:
    """Each file is cut at any byte, or has a byte flipped, as after a power cut."""
    folder = tmp_path_factory.mktemp("part")
    part = open_part(folder / "one")
    fill(part, data.draw(st.integers(0, 5)))
    part.close()
    for name in ("values.raw", "times.raw", "journal.jsonl"):
        path = part_folder(folder / "one") / name
        content = bytearray(path.read_bytes())
        if not content:
            continue
        if data.draw(st.booleans()):
            os.truncate(path, data.draw(st.integers(0, len(content))))
        elif data.draw(st.booleans()):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
            path.write_bytes(content)
    again = open_part(folder / "one")
    fill(again)
    again.finish("made")
    assert contents(folder / "one") == expected


def test_clips_before_the_damage_are_kept_and_those_behind_are_not(tmp_path: Path) -> None:
    part = open_part(tmp_path / "one")
    fill(part)
    part.close()
    values = part_folder(tmp_path / "one") / "values.raw"
    content = bytearray(values.read_bytes())
    content[3 * 12] ^= 1  # the first row of the third clip
    values.write_bytes(content)
    again = open_part(tmp_path / "one")
    assert len(again) == 2
    again.close()
    assert values.stat().st_size == 3 * 12
    assert (values.parent / "times.raw").stat().st_size == 3 * 16


def test_a_part_of_other_clips_keeps_what_is_the_same(tmp_path: Path) -> None:
    part = open_part(tmp_path / "one")
    fill(part, 4)
    part.close()
    changed = Part(tmp_path / "one", SPEC, NAMES, "float32", [*DIGESTS[:2], b"?" * 16, *DIGESTS[3:]])
    assert len(changed) == 2
    changed.close()


@pytest.mark.parametrize("step", ["unlink", "move_into_place"])
def test_killed_while_finishing_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Just before the journal goes, and just before the table gets its name."""
    expected = whole(tmp_path / "expected")
    part = open_part(tmp_path / "one")
    fill(part)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((Path, step, killed) if step == "unlink" else (mmsa.features.part, step, killed)))
        with pytest.raises(KeyboardInterrupt):
            part.finish("made")
    assert not (tmp_path / "one").exists()
    again = open_part(tmp_path / "one")
    assert len(again) == len(LENGTHS)
    again.finish("made")
    assert contents(tmp_path / "one") == expected


def test_what_is_added_can_be_read_at_once(tmp_path: Path) -> None:
    part = open_part(tmp_path / "one")
    for clip in range(len(LENGTHS)):
        fill(part, clip + 1)
        found = part.rows.read(clip)
        assert found is not None
        np.testing.assert_array_equal(found[0].values, sequence(clip).values)
        assert found[1] == (None if LENGTHS[clip] else "silent")
    part.close()


def test_a_discarded_table_is_none_even_if_that_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr(mmsa.features.part.shutil, "rmtree", lambda _: None)
        discard(tmp_path / "one")
    assert not (tmp_path / "one" / "store.json").exists()
    assert (tmp_path / "one" / "values.raw").exists()
    discard(tmp_path / "one")
    assert not (tmp_path / "one").exists()
