from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import pytest

from mmsa.errors import UsageError
from mmsa.scoring.exports import Places, find_columns, frame, to_vtt
from mmsa.scoring.results import ModalityScore, Score, TaskScore, WindowScore


def _window(number: int, start: float, end: float, **more: object) -> WindowScore:
    scores = {
        "sentiment": TaskScore(value=number / 4, interval=(-1.0, 1.0)),
        "emotion": TaskScore(label="joy", probabilities={"joy": 0.7, "fear": 0.3}),
    }
    smoothed = {"sentiment": TaskScore(value=-number / 4), "emotion": scores["emotion"]}
    there = {"audio": ModalityScore(True, None, 3, 1.0, {"sentiment": 0.5}), "text": ModalityScore(False, "x", 0, 0.0)}
    return WindowScore(number, start, end, scores, smoothed, there, **more)  # type: ignore[arg-type]


TALK = Score("in/talk.mp4", windows=tuple(_window(k, 5.0 * k, 5.0 * k + 10) for k in range(3)), notes=("odd",))
FAILED = Score("gone.mp4", error="no such file", extra={"who": "Ann, B"})
TWIN = Score("other/talk.mp4", windows=(_window(0, 0, 10),))


def _read() -> Iterable[Score]:
    return iter([TALK, FAILED, TWIN])


def test_every_window_and_every_error_has_a_row(tmp_path: Path) -> None:
    places = Places(tmp_path / "scores.csv")
    assert places.derive(_read) == [tmp_path / "scores.csv"]
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["in/talk.mp4"] * 3 + ["gone.mp4", "other/talk.mp4"]
    assert [row["sentiment"] for row in rows] == ["0.0", "0.25", "0.5", "", "0.0"]
    assert [row["sentiment.smoothed"] for row in rows][:3] == ["0.0", "-0.25", "-0.5"]
    assert rows[0]["missing"] == "text: x"
    assert rows[0]["audio.moved.sentiment"] == "0.5"
    assert (rows[3]["error"], rows[3]["input.who"], rows[3]["emotion"]) == ("no such file", "Ann, B", "")


def test_parquet_and_frame_hold_what_the_csv_does(tmp_path: Path) -> None:
    import pandas as pd

    Places(tmp_path, ["parquet"]).derive(_read)
    table = pd.read_parquet(tmp_path / "scores.parquet")
    made = frame([TALK, FAILED, TWIN])
    assert list(table.columns) == list(made.columns) == list(find_columns(_read()))
    assert list(table["sentiment.high"].dropna()) == [1.0] * 4
    assert list(table["emotion.fear"].dropna()) == [0.3] * 4
    for name in made.columns:
        assert list(table[name].dropna()) == list(made[name].dropna()), name


def test_cues_share_what_windows_overlap() -> None:
    """Windows of 10 s every 5 s: each cue but the outer ones lasts 5 s around its window's middle."""
    cues = [block.splitlines() for block in to_vtt(TALK).split("\n\n") if "-->" in block]
    assert [cue[0] for cue in cues] == [
        "00:00:00.000 --> 00:00:07.500",
        "00:00:07.500 --> 00:00:12.500",
        "00:00:12.500 --> 00:00:20.000",
    ]
    assert cues[2][1] == "sentiment -0.50 joy 70%"


def test_a_player_reads_the_cues(tmp_path: Path) -> None:
    from extractors import read_transcript

    path = tmp_path / "a.vtt"
    odd = Score("a --> <b>.mp4", windows=(_window(0, 3600.0, 3601.5, speaker="A & <B>"), _window(1, 3602, 3603)))
    path.write_text(to_vtt(odd), encoding="utf-8")
    first, second = read_transcript(path).segments
    assert (first.start_seconds, first.end_seconds) == (3600.0, 3601.5)
    assert first.text == "A & <B>: sentiment +0.00 joy 70%"
    assert second.text == "sentiment -0.25 joy 70%"


def test_subtitles_of_one_name_do_not_meet(tmp_path: Path) -> None:
    Places(tmp_path, ["vtt"]).derive(_read)
    assert sorted(path.name for path in (tmp_path / "vtt").iterdir()) == ["talk-2.vtt", "talk.vtt"]
    assert (tmp_path / "vtt" / "talk-2.vtt").read_text(encoding="utf-8") == to_vtt(TWIN)


def test_where_results_go(tmp_path: Path) -> None:
    assert Places(tmp_path).rows == tmp_path / "scores.jsonl"
    assert Places(tmp_path / "new").rows == tmp_path / "new" / "scores.jsonl"
    assert Places(tmp_path / "a.jsonl").rows == tmp_path / "a.jsonl"
    assert Places(tmp_path / "a.parquet").rows == tmp_path / "a.jsonl"
    assert Places(tmp_path / "a.jsonl", ["vtt"]).subtitles == tmp_path / "a-vtt"


@pytest.mark.parametrize(
    ("name", "formats", "message"),
    [
        ("scores.xlsx", [], "a folder or a file named .jsonl, .csv or .parquet"),
        ("gone/scores.jsonl", [], "there is no folder .*gone to write scores.jsonl to"),
        ("gone/scores", [], "there is no folder .*gone to make scores in"),
        ("scores.jsonl", ["cvs"], "Did you mean 'csv'"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_said_at_once(tmp_path: Path, name: str, formats: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Places(tmp_path / name, formats)


def test_a_failed_export_leaves_what_was_there(tmp_path: Path) -> None:
    places = Places(tmp_path / "scores.csv")
    places.derive(_read)
    before = (tmp_path / "scores.csv").read_bytes()
    count = 0

    def breaks() -> Iterable[Score]:
        nonlocal count
        count += 1
        yield TALK
        if count == 2:
            raise OSError("the disk is gone")

    with pytest.raises(UsageError, match="the disk is gone"):
        places.derive(breaks)
    assert (tmp_path / "scores.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.csv"]
