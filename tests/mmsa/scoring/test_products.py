from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmsa.errors import UsageError
from mmsa.scoring.overlay.writer import read_key
from mmsa.scoring.products import Products
from mmsa.scoring.results import Score

MakeScore = Callable[..., Score]
Mmsa = Callable[..., tuple[int, str, str]]


def rows_of(page: Path) -> list[dict[str, object]]:
    text = page.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0]
    return list(json.loads(text)["rows"])


@pytest.fixture
def files(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("b.wav", "a.wav"):
        write_wav(tmp_path / "in" / name, [0.125] * 10 + [0.5] * 10)
    (tmp_path / "in" / "c.wav").write_bytes(b"no media")
    return tmp_path / "in"


@pytest.mark.slow
def test_a_batch_makes_both_and_a_second_run_keeps_them(
    run_mmsa: Mmsa, trained: object, files: Path, tmp_path: Path
) -> None:
    words = ("score", "latest", files, "--window", 1, "--output", tmp_path / "out", "--trust-extractors")
    more = ("--report", tmp_path / "report", "--overlay", tmp_path / "overlay")
    code, _, _ = run_mmsa(*words)
    assert code == 1
    code, _, err = run_mmsa(*words, *more)  # from the rows that are there already
    assert code == 1
    assert "3 of 3 are in" in err
    assert "overlays: 2 in" in err
    assert "no face mesh" in err
    assert str(tmp_path / "report" / "index.html") in err.replace("\n", "")
    assert [row["title"] for row in rows_of(tmp_path / "report" / "index.html")] == ["a.wav", "b.wav", "c.wav"]
    made = sorted((tmp_path / "overlay").iterdir())
    assert [path.name for path in made] == ["a-overlay.mp4", "b-overlay.mp4"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert {read_key(path) for path in made} == {row["key"] for row in rows if "error" not in row}
    assert '"overlay":"../../overlay/a-overlay.mp4"' in (tmp_path / "report" / "pages" / "a.html").read_text()
    before = [path.stat().st_ino for path in made]
    (files / "b.wav").unlink()  # of media that has gone, the overlay cannot be looked at again, nor made
    code, _, err = run_mmsa(*words, *more, "--jobs", 2)
    assert code == 1
    assert "no overlay of" in err
    assert [path.stat().st_ino for path in made] == before
    gone = {row["title"]: row.get("gone") for row in rows_of(tmp_path / "report" / "index.html")}
    assert gone["b.wav"] is True
    assert gone["a.wav"] is False


def test_without_output_the_report_has_what_was_scored(
    run_mmsa: Mmsa, trained: object, files: Path, tmp_path: Path
) -> None:
    words = ("score", "latest", files / "a.wav", "--window", 1, "--report", tmp_path / "report", "--trust-extractors")
    code, out, err = run_mmsa(*words, "--json")
    assert code == 0, err
    (line,) = out.splitlines()
    (row,) = rows_of(tmp_path / "report" / "index.html")
    assert row["windows"] == len(json.loads(line)["windows"]) == 3


def test_what_cannot_be_made_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = pytest.fail
    with pytest.raises(UsageError, match="give --report, too"):
        Products(None, "copy", None, told)
    with pytest.raises(UsageError, match="no way to play media 'copied'"):
        Products(tmp_path / "r", "copied", None, told)
    with pytest.raises(UsageError, match="no report can be written to"):
        Products(tmp_path / "file" / "r", None, None, told)
    with pytest.raises(UsageError, match="no overlay can be written to"):
        Products(None, None, tmp_path / "file" / "o", told)
    with Products(None, None, None, told) as none:
        assert not none.wanted
