from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.errors import UsageError
from mmsa.scoring.inputs import gather


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "talks"
    (root / "deep" / ".hidden").mkdir(parents=True)
    for name in ("clip10.mp4", "clip2.MP4", "deep/one.wav", "notes.txt", "deep/.hidden/x.mp4", ".y.mp4", "face.png"):
        (root / name).write_bytes(b"x")
    return root


def _paths(*given: object, **options: object) -> list[str]:
    return [Path(item.path).name for item in gather(list(map(str, given)), **options).items]  # type: ignore[arg-type]


def test_a_folder_gives_its_media_in_natural_order(folder: Path) -> None:
    assert _paths(folder) == ["clip2.MP4", "clip10.mp4", "one.wav", "face.png"]


def test_a_pattern_chooses(folder: Path) -> None:
    assert _paths(folder, glob="*.txt") == ["notes.txt"]
    with pytest.raises(UsageError, match="holds no files that match"):
        gather([folder], glob="*.nonesuch")


def test_a_list_names_files_beside_it_and_folders(folder: Path) -> None:
    names = folder.parent / "list.txt"
    names.write_text("talks/clip2.MP4\n\ntalks/deep\n", encoding="utf-8")
    assert _paths(f"@{names}") == ["clip2.MP4", "one.wav"]
    assert [Path(item.path).name for item in gather([], lists=[names]).items] == ["clip2.MP4", "one.wav"]


def test_what_is_given_twice_is_scored_once_and_said(folder: Path) -> None:
    (folder / "link.mp4").symlink_to(folder / "clip10.mp4")
    found = gather([folder / "clip10.mp4", folder / "link.mp4", folder / "deep" / ".." / "clip10.mp4"])
    assert len(found.items) == 1
    assert found.notes == ("2 of 3 inputs were given more than once and are scored once",)


def test_a_table_names_segments_texts_and_carries_the_rest(folder: Path) -> None:
    table = folder / "in.csv"
    table.write_text(
        'path,start,end,text,id,who\nclip2.MP4,1.5,0:01:02.5,"so, it",a,Ann\nclip2.MP4,,,,b,\n\nclip2.MP4,5,4,,c,x\n',
        encoding="utf-8",
    )
    first, second, third = gather([table]).items
    assert Path(first.path) == folder / "clip2.MP4"
    assert (first.span, first.text, first.id, first.extra) == ((1.5, 62.5), "so, it", "a", {"who": "Ann"})
    assert (second.span, second.text, second.id, second.error) == ((None, None), None, "b", None)
    assert "from 5 to 4 s has no length" in (third.error or "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,start\na,1\n", "needs a column 'path'"),
        ("path,path\na,b\n", "names a column twice"),
        ("path,start\na\n", "line 2: 1 cells for 2 columns"),
        ("path,start\na,soon\n", "start must be seconds or h:mm:ss, not 'soon'"),
        ("path,start\na,-1\n", "start must be seconds"),
        ("path\nhttp://a/b.mp4\n", "needs --allow-remote"),
        ("path,id\n,x\n", "line 2: no path"),
    ],
    ids=str,
)
def test_a_table_that_cannot_be_right_is_refused(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "in.csv"
    table.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        gather([table])


def test_what_is_not_there_stays_an_input(tmp_path: Path) -> None:
    assert _paths(tmp_path / "gone.mp4") == ["gone.mp4"]


def test_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to score"):
        gather([])
    with pytest.raises(UsageError, match="cannot be read as a list"):
        gather([f"@{tmp_path / 'gone.txt'}"])


def test_a_text_is_of_one_file(folder: Path) -> None:
    assert gather([folder / "clip2.MP4"], text="hello").items[0].text == "hello"
    with pytest.raises(UsageError, match="--text is the transcript of one file, but 2 were given"):
        gather([folder / "clip2.MP4", folder / "clip10.mp4"], text="hello")
