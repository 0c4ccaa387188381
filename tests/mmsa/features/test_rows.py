from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora.clip import Corpus
from mmsa.errors import UsageError
from mmsa.features import load_features, store_folder
from mmsa.features.rows import checksum, find_rows, part_rows, table_rows


def test_the_checksum_is_of_everything_that_is_stored() -> None:
    parts = (b"digest", "reason", b"values", b"times")
    assert checksum(*parts) == zlib.crc32(b"digestreasontimesvalues")
    others = [(b"digesT", *parts[1:]), (parts[0], None, *parts[2:]), (*parts[:2], b"", parts[3]), (*parts[:3], b"")]
    assert len({checksum(*parts), *(checksum(*own) for own in others)}) == 5
    noted = [checksum(*parts, notes=notes) for notes in ((), ("a",), ("b",), ("a", "b"), ("ab",))]
    assert noted[0] == checksum(*parts)
    assert len(set(noted)) == 5


def test_rows_are_what_the_table_holds(corpus: Corpus, small: Any) -> None:
    table = load_features(corpus, {"text": small.WordLengths()}, jobs=1)["text"]
    rows = table_rows(store_folder(corpus, small.WordLengths()))
    for i, record in enumerate(rows.records):
        found = rows.read(i)
        assert found is not None
        np.testing.assert_array_equal(found[0].values, table.sequence(i).values)
        np.testing.assert_array_equal(found[0].times, table.sequence(i).times)
        assert (found[1], record.steps) == (None, len(table.sequence(i)))
    rows.close()


@pytest.mark.parametrize("file", ["values.raw", "times.raw"])
def test_a_flipped_bit_costs_its_clip_alone(corpus: Corpus, small: Any, file: str) -> None:
    load_features(corpus, {"audio": small.Loudness()}, jobs=1)  # 2, 1 and 3 steps
    path = store_folder(corpus, small.Loudness()) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 6 * 2 + 1] ^= 1  # in the only step of the second clip
    path.write_bytes(content)
    rows = table_rows(path.parent)
    assert [rows.read(i) is None for i in range(3)] == [False, True, False]
    assert rows.count_sound([record.digest for record in rows.records]) == 1
    rows.close()


def test_what_was_cut_off_reads_as_nothing(corpus: Corpus, small: Any) -> None:
    load_features(corpus, {"audio": small.Loudness()}, jobs=1)
    path = store_folder(corpus, small.Loudness()) / "values.raw"
    path.write_bytes(path.read_bytes()[: 3 * 4])
    rows = table_rows(path.parent)
    assert [rows.read(i) is None for i in range(3)] == [False, False, True]
    path.unlink()
    rows.close()
    assert rows.read(0) is None


def test_a_table_without_a_list_of_its_clips_is_none(corpus: Corpus, small: Any) -> None:
    load_features(corpus, {"audio": small.Loudness()}, jobs=1)
    folder = store_folder(corpus, small.Loudness())
    np.save(folder / "clips.npy", np.load(folder / "clips.npy")[:2])
    with pytest.raises(UsageError, match="does not fit"):
        table_rows(folder)
    (folder / "clips.npy").unlink()
    with pytest.raises(UsageError, match="no table of the store"):
        table_rows(folder)


LINES = [b'["00", 2, 7, null]', b'["01", 0, 8, "silent", "1 packet", "2"]', b'["02", 1, 9, null]']


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"", 0),
        (b"\n".join(LINES) + b"\n", 3),
        (b"\n".join(LINES), 2),  # the last line break is part of the line
        (LINES[0] + b"\n" + LINES[1][:9] + b"\n" + LINES[2] + b"\n", 1),
        (LINES[0] + b"\n" + b"\0" * 40 + b"\n" + LINES[2] + b"\n", 1),
        (LINES[0] + b'\n["zz", 2, 7, null]\n', 1),
        (LINES[0] + b"\n[1, 2]\n", 1),
    ],
)
def test_a_journal_ends_at_its_first_line_that_is_not_whole(tmp_path: Path, text: bytes, count: int) -> None:
    (tmp_path / "journal.jsonl").write_bytes(text)
    rows = part_rows(tmp_path, "float32", ("x",))
    every = [(b"\0", 0, 2, 7, None, ()), (b"\1", 2, 0, 8, "silent", ("1 packet", "2")), (b"\2", 2, 1, 9, None, ())]
    expected = every[:count]
    assert [tuple(vars(record).values()) for record in rows.records] == expected


def test_clips_are_found_wherever_they_lie(
    corpus: Corpus, small: Any, corpus_of: Callable[..., Corpus], tmp_path: Path
) -> None:
    first, second = corpus_of(corpus.clips[:2]), corpus_of(corpus.clips[1:])
    for own in (first, second):
        load_features(own, {"text": small.WordLengths()}, jobs=1)
    folders = [store_folder(own, small.WordLengths()) for own in (first, second)]
    (folders[0].parent / "damaged").mkdir()
    digests = [record.digest for folder in folders for record in table_rows(folder).records]
    groups, names = [(folders[0].parent, "float32")], ("length", "capitals")
    found = find_rows(groups, names, [*digests, b"unknown"], tmp_path)  # type: ignore[list-item, arg-type]
    assert set(found) == set(digests)
    for digest, (rows, position) in found.items():
        assert rows.records[position].digest == digest
    assert set(find_rows(groups, names, digests, folders[0])) == set(digests[2:])  # type: ignore[arg-type]
    assert find_rows(groups, ("another",), digests, tmp_path) == {}  # type: ignore[arg-type]
    assert find_rows([(tmp_path / "none", "float32")], names, digests, tmp_path) == {}
