from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from unittest import mock

import pytest

import mmsa.features.media
from mmsa.features.media import identify_media, ledger_folder, stale_ledgers


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of an hour ago, as the ledger keeps only what is not new."""
    paths = [tmp_path / "media" / name for name in ("a.mp4", "b.mp4")]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    return paths


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content was read; no file counts as new."""
    read: list[str] = []
    real = mmsa.features.media._content

    def watched(path: Path) -> str:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(mmsa.features.media, "_content", watched)
    monkeypatch.setattr(mmsa.features.media, "COARSE_SECONDS", 0.0)
    return read


def test_content_is_the_digest_of_the_bytes(files: list[Path]) -> None:
    found = identify_media(files)
    for path in files:
        assert found[path].content == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        assert found[path].size == path.stat().st_size


def test_a_file_is_read_once(files: list[Path], reads: list[str]) -> None:
    first = identify_media(files)
    assert sorted(reads) == ["a.mp4", "b.mp4"]
    assert identify_media(files) == first
    assert identify_media(files[:1] * 3) == {files[0]: first[files[0]]}
    assert sorted(reads) == ["a.mp4", "b.mp4"]


def test_a_moved_or_touched_file_is_read_again_and_is_the_same(
    files: list[Path], reads: list[str], tmp_path: Path
) -> None:
    first = identify_media(files)
    os.utime(files[0])
    (tmp_path / "elsewhere").mkdir()
    moved = files[1].rename(tmp_path / "elsewhere" / "c.mp4")
    found = identify_media([files[0], moved])
    assert [found[files[0]].content, found[moved].content] == [first[path].content for path in files]
    assert reads[2:] == ["a.mp4", "c.mp4"]


def test_new_content_of_the_same_size_and_time_is_seen(files: list[Path], reads: list[str]) -> None:
    """The time of writing can be set back; the time of change cannot."""
    first, status = identify_media(files), files[0].stat()
    time.sleep(0.02)  # beyond the resolution of the file system's clock
    files[0].write_bytes(b"x" * status.st_size)
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert identify_media(files)[files[0]].content != first[files[0]].content


def test_a_file_that_was_just_written_is_not_remembered(files: list[Path]) -> None:
    identify_media(files)
    assert not list(ledger_folder().glob("*"))
    with mock.patch.object(time, "time", return_value=time.time() + 3):
        identify_media(files)
    (ledger,) = ledger_folder().iterdir()
    assert len(ledger.read_text().splitlines()) == 2


def test_torn_and_foreign_lines_are_passed_over(files: list[Path], reads: list[str]) -> None:
    first = identify_media(files)
    (ledger,) = ledger_folder().iterdir()
    whole = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"\xff\n[1, 2]\n7\n" + whole[0] + whole[1][:20])
    reads.clear()
    assert identify_media(files) == first
    assert reads == ["b.mp4"]


def test_the_last_line_about_a_file_counts(files: list[Path], reads: list[str]) -> None:
    identify_media(files)
    files[0].write_bytes(b"other")
    later = identify_media(files)
    reads.clear()
    assert identify_media(files) == later
    assert reads == []


def test_what_is_no_readable_file_has_an_identity_as_well(tmp_path: Path) -> None:
    gone, pipe = tmp_path / "gone.mp4", tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    found = identify_media([gone, pipe, tmp_path])
    assert [found[path].content for path in (gone, pipe, tmp_path)] == ["absent", "not a file", "not a file"]
    closed = tmp_path / "closed.mp4"
    closed.touch()
    with mock.patch.object(hashlib, "file_digest", side_effect=PermissionError(13, "no")):
        assert identify_media([closed])[closed].content == "unreadable: EACCES"
    assert identify_media([]) == {}


def test_a_change_after_the_look_is_seen(files: list[Path]) -> None:
    found = identify_media(files)[files[0]]
    assert found.is_as_before(files[0])
    files[0].write_bytes(b"more than there was" * 100)
    assert not found.is_as_before(files[0])
    files[0].unlink()
    assert not found.is_as_before(files[0])


def test_a_ledger_is_stale_when_all_its_files_are_gone(files: list[Path], reads: list[str]) -> None:
    identify_media(files)
    files[0].unlink()
    assert stale_ledgers() == []
    files[1].unlink()
    assert stale_ledgers() == list(ledger_folder().iterdir())


def test_a_store_that_cannot_be_written_is_no_obstacle(files: list[Path], reads: list[str]) -> None:
    ledger_folder().parent.mkdir(parents=True)
    ledger_folder().write_bytes(b"a file where the folder would be")
    first = identify_media(files)
    assert identify_media(files) == first
    assert len(reads) == 4
