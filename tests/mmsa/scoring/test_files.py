from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.scoring.files import Names, whole_file
from mmsa.scoring.results import Score


def test_names_are_safe_distinct_and_short() -> None:
    names = Names()
    paths = ["a/talk.mp4", "b/TALK.wav", "c/.hidden", "d/..", "x/" + "长" * 200 + ".mp4", "e/a\nb\u202e.mp4"]
    found = [names.of(Score(path)) for path in paths] + [names.of(Score("f.mp4", id="../../etc/passwd"))]
    assert found[:3] == ["talk", "TALK-2", "_hidden"]
    assert len({name.casefold() for name in found}) == len(found)
    assert all("/" not in name and not name.startswith(".") and name.isprintable() for name in found)
    assert all(len(name.encode()) <= 130 for name in found)
    assert found[4].strip("长") == ""


def test_bytes_that_are_no_text_become_a_name() -> None:
    assert Names().of(Score("in/\udcff\udcfe.mp4")).encode()


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail() -> None:
        with whole_file(path) as partial:
            partial.write_text("aft")
            assert path.read_text() == "before"
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail()
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "before"
    with whole_file(path) as partial:
        partial.write_text("after")
    assert path.read_text() == "after"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
