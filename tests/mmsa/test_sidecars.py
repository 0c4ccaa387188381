from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.errors import UsageError
from mmsa.sidecars import SIDECARS, find_sidecar, read_sidecar

SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\nyes\n"


def test_the_first_kind_that_is_there_counts(tmp_path: Path) -> None:
    media = tmp_path / "talk.one.mp4"
    assert find_sidecar(media) is None
    assert not read_sidecar(media)
    for suffix in reversed(SIDECARS):
        beside = tmp_path / f"talk.one{suffix}"
        beside.write_text(SUBTITLES)
        assert find_sidecar(media) == beside
    (tmp_path / "talk.srt").write_text("another talk's")
    assert read_sidecar(media).segments[0].start_seconds == 1.0


def test_nothing_is_its_own_transcript_and_a_folder_is_none(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("so it goes")
    (tmp_path / "a.srt").mkdir()
    assert find_sidecar(text) is None
    assert find_sidecar(tmp_path / "a.wav") == text
    assert read_sidecar(tmp_path / "a.wav").text == "so it goes"


def test_one_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"the transcript beside a\.mp4 cannot be read"):
        read_sidecar(tmp_path / "a.mp4")
