from __future__ import annotations

from pathlib import Path

from mmsa.scoring.lines import Line, read_lines
from mmsa.scoring.results import Score, WindowScore

WINDOWS = (
    WindowScore(0, 0.0, 10.0, text="one two"),
    WindowScore(1, 5.0, 15.0, text="two three"),
    WindowScore(2, 10.0, 20.0, text="three", speaker="Ann"),
    WindowScore(3, 20.0, 30.0),
)


def test_lines_beside_the_media_come_first(tmp_path: Path) -> None:
    media = tmp_path / "a.mp4"
    media.with_suffix(".vtt").write_text(
        "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Bo>Hi\n\n00:09.000 --> 00:11.000\nlate\n", encoding="utf-8"
    )
    assert read_lines(Score(str(media), windows=WINDOWS)) == [Line(1.0, 2.0, "Hi", "Bo"), Line(9.0, 11.0, "late")]
    cut = Score(str(media), start_seconds=5.0, end_seconds=10.0, windows=WINDOWS)
    assert [line.text for line in read_lines(cut)] == ["late"]


def test_without_times_or_file_the_windows_say_it(tmp_path: Path) -> None:
    media = tmp_path / "a.mp4"
    media.with_suffix(".txt").write_text("all of it", encoding="utf-8")
    expected = [Line(0.0, 10.0, "one two"), Line(10.0, 20.0, "three", "Ann")]
    assert read_lines(Score(str(media), windows=WINDOWS)) == expected
    assert read_lines(Score("s3://bucket/a.mp4", windows=WINDOWS)) == expected


def test_a_transcript_that_broke_since_ends_nothing(tmp_path: Path) -> None:
    media = tmp_path / "a.mp4"
    media.with_suffix(".srt").write_bytes(b"\xff\xfe\x00")
    assert [line.text for line in read_lines(Score(str(media), windows=WINDOWS))] == ["one two", "three"]
