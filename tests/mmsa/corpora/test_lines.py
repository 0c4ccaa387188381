from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.corpora.lines import find_folder, first_file, read_lines
from mmsa.errors import UsageError


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    """Posts hold U+2028, U+0085 and form feeds, at which str.splitlines would break."""
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\u2028still one\x0c\r\n\n  \ntwo\x85\rstill two\nlast".encode())
    lines = list(read_lines(path))
    assert [(line.number, line.text) for line in lines] == [
        (1, "one\u2028still one\x0c"),
        (4, "two\x85\rstill two"),
        (5, "last"),
    ]
    assert [line.text for line in read_lines(path, empty=True)][1:3] == ["", "  "]
    assert str(lines[1].error("wrong")) == f"{path}, line 4: wrong"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a.txt not found: give the folder that holds it with --root FOLDER"):
        list(read_lines(tmp_path / "a.txt"))
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"b.txt must be UTF-8"):
        list(read_lines(tmp_path / "b.txt"))


def test_the_first_place_counts(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "here.txt").touch()
    paths = [tmp_path / "here.txt", tmp_path / "inner", tmp_path / "inner" / "here.txt"]
    assert first_file(paths) == paths[2]
    assert first_file(paths[:2]) is None
    assert find_folder(tmp_path, (".", "inner"), "here.txt", "some corpus") == tmp_path / "inner"
    with pytest.raises(UsageError, match=r"is not the layout of some corpus: no gone.txt in .*, .*inner; give its"):
        find_folder(tmp_path, (".", "inner"), "gone.txt", "some corpus")
