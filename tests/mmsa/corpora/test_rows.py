from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.corpora.rows import Row, read_rows
from mmsa.errors import UsageError


def write(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_cells_are_read_as_text_with_their_line(tmp_path: Path, encoding: str, newline: str) -> None:
    lines = ["id,text", "0004,  你好，世界 ", '5,"one, two"', '6,"first', 'second"', "7,"]
    path = write(tmp_path / "t.csv", newline.join(lines) + newline, encoding)
    rows = list(read_rows(path, ["id"]))
    assert [(row["id"], row["text"], row.line) for row in rows] == [
        ("0004", "你好，世界", 2),
        ("5", "one, two", 3),
        ("6", f"first{newline}second", 5),
        ("7", "", 6),
    ]


def test_a_column_may_be_absent_where_it_is_not_asked_for(tmp_path: Path) -> None:
    row = Row(tmp_path / "t.csv", 2, {"id": "1"})
    assert (row.get("id"), row.get("label_T")) == ("1", "")


@pytest.mark.parametrize("cell", ["", "4.0", "four"])
def test_a_cell_that_is_no_number_says_where_it_stands(cell: str) -> None:
    assert Row(Path("t.csv"), 3, {"n": " 04"}).integer("n") == 4
    with pytest.raises(UsageError, match=rf"^t\.csv, line 3, column n: must be a whole number, not '{cell}'$"):
        Row(Path("t.csv"), 3, {"n": cell}).integer("n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\n1\n", r"t\.csv lacks the columns text, mode; it has \['id'\]"),
        ("", r"t\.csv lacks the columns id, text, mode; it has None"),
        ("id,text,mode\n1,a, b,train\n", r"t\.csv, line 2: it must have 3 cells, .* comma in the text not quoted"),
        ("id,text,mode\n1,a,train\n2,a\n", r"t\.csv, line 3: it must have 3 cells"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(read_rows(write(tmp_path / "t.csv", content), ["id", "text", "mode"]))


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"t\.csv must be UTF-8: 'utf-8' codec can't decode"):
        list(read_rows(write(tmp_path / "t.csv", "id,text\n1,你好\n", "gbk"), ["id"]))


def test_what_the_csv_reader_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"t\.csv is not a CSV table: field larger than field limit"):
        list(read_rows(write(tmp_path / "t.csv", "id\n" + "x" * 200_000), ["id"]))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.csv not found: give the folder that holds it with --root FOLDER"):
        list(read_rows(tmp_path / "gone.csv", ["id"]))
