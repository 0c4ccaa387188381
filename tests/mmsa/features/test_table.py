from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mmsa.features.table
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from mmsa.errors import UsageError
from mmsa.features import open_table, summarise_missing, summarise_notes, table_writer
from mmsa.features.table import DamagedTableError, check_dtype, decode, describe, encode, row_bytes

SPEC = ExtractorSpec("made.one", "none", "1", {"a": 1})


def sequence(values: list[list[float]], names: tuple[str, ...] = ("x", "y")) -> FeatureSequence:
    steps = np.arange(len(values), dtype=np.float64)
    rows = np.array(values, np.float32).reshape(-1, len(names))
    return FeatureSequence(rows, np.stack([steps, steps + 0.5], axis=1), names)


CLIPS = {"a": sequence([[1, 2], [3, 4]]), "b": sequence([]), "c": sequence([[5, 6]])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with table_writer(tmp_path / "group" / "one", SPEC, ("x", "y")) as writer:
        for name, own in CLIPS.items():
            writer.add(name, own, None if len(own) else "silent")
    return tmp_path / "group" / "one"


def test_a_table_gives_back_what_was_written(folder: Path) -> None:
    table = open_table(folder)
    for i, own in enumerate(CLIPS.values()):
        np.testing.assert_array_equal(table.sequence(i).values, own.values)
        np.testing.assert_array_equal(table.sequence(i).times, own.times)
    assert (table.spec, table.names, table.missing) == (SPEC, ("x", "y"), {"b": "silent"})


def test_values_are_mapped_and_cannot_be_written(folder: Path) -> None:
    table = open_table(folder)
    assert isinstance(table.values, np.memmap)
    assert isinstance(table.times, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        table.values[0] = 1.0


def test_a_table_of_no_steps_can_be_opened(tmp_path: Path) -> None:
    with table_writer(tmp_path / "one", SPEC, ("x", "y")) as writer:
        writer.add("b", CLIPS["b"], "silent")
    assert open_table(tmp_path / "one").sequence(0).values.shape == (0, 2)


@pytest.mark.parametrize("file", ["values.raw", "times.raw"])
@pytest.mark.parametrize("size", [0, 11, 1000])
def test_a_file_of_another_length_is_no_table(folder: Path, file: str, size: int) -> None:
    os.truncate(folder / file, size)
    with pytest.raises(DamagedTableError, match=rf"{file} has {size} bytes, but its table needs \d+: delete"):
        open_table(folder)


@pytest.mark.parametrize("file", ["values.raw", "times.raw", "offsets.npy", "store.json"])
def test_a_table_without_one_of_its_files_is_none(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(DamagedTableError):
        open_table(folder)


@pytest.mark.parametrize("text", ["", '{"format": ', "[]", "{}"])
def test_a_description_that_is_none_is_damage(folder: Path, text: str) -> None:
    (folder / "store.json").write_text(text)
    with pytest.raises(DamagedTableError, match="no feature table"):
        open_table(folder)


def test_another_version_is_refused_but_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmsa.features.table, "FORMAT", 99)
    with pytest.raises(UsageError, match="another version of mmsa: delete") as caught:
        open_table(folder)
    assert not isinstance(caught.value, DamagedTableError)


def test_a_table_from_before_float16_is_read_as_float32(folder: Path) -> None:
    meta = json.loads((folder / "store.json").read_text())
    del meta["dtype"]
    (folder / "store.json").write_text(json.dumps(meta))
    assert open_table(folder).sequence(2).values.tolist() == [[5, 6]]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with table_writer(tmp_path / "group" / "one", SPEC, ("x", "y")) as writer:
            writer.add("a", CLIPS["a"], None)
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail()
    assert list((tmp_path / "group").iterdir()) == []


def test_only_what_was_long_abandoned_is_removed(tmp_path: Path) -> None:
    old, young = tmp_path / ".one-old", tmp_path / ".one-young"
    for left in (old, young):
        left.mkdir()
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    with table_writer(tmp_path / "one", SPEC, ("x", "y")) as writer:
        writer.add("a", CLIPS["a"], None)
    assert {path.name for path in tmp_path.iterdir()} == {"one", ".one-young"}


finite = st.floats(-65504, 65504, width=32)


@settings(derandomize=True, max_examples=50)
@given(values=arrays(np.float32, (3, 2), elements=finite))
def test_float32_is_exact_and_float16_within_its_last_bit(values: np.ndarray) -> None:
    own = FeatureSequence(values, np.array([[0, 1], [1, 2], [1, 3]], np.float64), ("x", "y"))
    exact = decode(*encode(own, "float32", "a"), "float32", own.names)
    np.testing.assert_array_equal(exact.values, own.values)
    near = decode(*encode(own, "float16", "a"), "float16", own.names)
    bound = np.maximum(np.abs(values.astype(np.float64)) * 2.0**-11, 2.0**-25)
    assert (np.abs(near.values.astype(np.float64) - values) <= bound).all()
    np.testing.assert_array_equal(near.times, own.times)
    assert near.values.dtype == np.float32


def test_what_float16_cannot_hold_is_refused_by_name() -> None:
    edge = sequence([[65504, 0], [0, -65519]])  # 65520 is half-way to what would follow: the first to round beyond
    assert decode(*encode(edge, "float16", "a"), "float16", ("x", "y")).values.tolist() == [[65504, 0], [0, -65504]]
    with pytest.raises(UsageError, match=r"clip 'a' has values beyond float16's ±65504 in y \(65520\): keep") as caught:
        encode(sequence([[1, -65520]]), "float16", "a")
    assert "x" not in str(caught.value).split("in y")[0].split("65504")[1]
    wide = FeatureSequence(np.full((1, 7), 1e6, np.float32), np.zeros((1, 2)), tuple("abcdefg"))
    with pytest.raises(UsageError, match=r"a \(1e\+06\), .*, e \(1e\+06\) and 2 more features"):
        encode(wide, "float16", "a")
    assert len(encode(wide, "float32", "a")[0]) == 28


def test_only_two_types_are_known() -> None:
    assert [row_bytes(check_dtype(name), 3) for name in ("float32", "float16")] == [12, 6]
    with pytest.raises(UsageError, match="kept as float32 or float16, not 'bfloat16'"):
        check_dtype("bfloat16")


READ = """
import resource, sys
from pathlib import Path
from mmsa.features import open_table
def peak():  # of memory in use, in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
table = open_table(Path(sys.argv[1]))
opened = peak()
for clip in (0, 5000, 9999):
    assert table.sequence(clip).values.shape == (100_000, 16)
    assert not table.sequence(clip).values.any()
print(opened - before, peak() - before)
"""


def test_opening_a_huge_table_reads_none_of_it(tmp_path: Path) -> None:
    """80 GB that are one hole in a file: a reader that touched them all would run out of time and memory."""
    names, clips, steps = tuple(f"f{i}" for i in range(16)), 10_000, 100_000
    for file, width in (("values.raw", 64), ("times.raw", 16)):
        with (tmp_path / file).open("wb") as hole:
            hole.truncate(clips * steps * width)
    describe(tmp_path, SPEC, names, "float32", [i * steps for i in range(clips + 1)], {}, {})
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], check=True, capture_output=True, text=True)
    opened, read = map(int, done.stdout.split())
    one = steps * (64 + 16)
    assert opened < one
    assert read < 20 * one  # three clips, twice, and copies of them that are checked; not ten thousand


def test_reasons_are_summed_up_by_modality(folder: Path) -> None:
    table = open_table(folder)
    assert list(summarise_missing({"audio": table})) == ["1 of 3 clips lack audio (1 × silent)"]


def test_notes_are_kept_and_summed_up_by_modality(tmp_path: Path) -> None:
    with table_writer(tmp_path / "one", SPEC, ("x", "y")) as writer:
        for clip, notes in (("a", ["twice", "once"]), ("b", []), ("c", ["twice"])):
            writer.add(clip, FeatureSequence.empty(("x", "y")), "silent", notes=notes)
    table = open_table(tmp_path / "one")
    assert table.notes == {"a": ("twice", "once"), "c": ("twice",)}
    assert list(summarise_notes({"audio": table})) == ["2 of 3 clips have notes on audio (2 × twice)"]


def test_a_table_from_before_there_were_notes_opens(folder: Path) -> None:
    about = json.loads((folder / "store.json").read_text())
    del about["notes"]
    (folder / "store.json").write_text(json.dumps(about))
    table = open_table(folder)
    assert (table.notes, table.missing) == ({}, {"b": "silent"})
    assert list(summarise_notes({"audio": table})) == []
