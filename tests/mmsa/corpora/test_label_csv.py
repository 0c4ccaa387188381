from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.corpora.clip import Clip, Corpus
from mmsa.corpora.label_csv import read_label_csv
from mmsa.errors import UsageError
from mmsa.tasks import MultiLabel, Regression

HEADER = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"
ROWS = [
    "video_0900,0004,今天的天气，很好。,-1.0,-0.4,0.2,,Negative,train",
    'video_0900,0005,"Yes, ""really"".",0.6,,,,Positive,valid',
    "-a$_$b,7,,0.0,,0.0,,,test",
    "-a$_$b,8_x,no label,,,,,,test",
]
SENTIMENT = Regression("sentiment", -1, 1, "sims")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "label.csv"
    path.write_text("\r\n".join([HEADER, *ROWS]) + "\r\n", encoding="utf-8-sig")
    return path


def read(table: Path, *, unimodal: bool = False) -> Corpus:
    return read_label_csv("made", table, SENTIMENT, unimodal=unimodal)


def add(table: Path, row: str) -> None:
    with table.open("a", encoding="utf-8") as file:
        file.write(row + "\r\n")


def test_rows_become_clips(table: Path) -> None:
    (table.parent / "Raw" / "video_0900").mkdir(parents=True)
    (table.parent / "Raw" / "video_0900" / "0004.mp4").touch()
    (table.parent / "Raw" / "video_0900" / "5.mp4").touch()  # not clip 0005
    corpus = read(table)
    assert corpus.name == "made"
    assert corpus.tasks == (SENTIMENT,)
    assert corpus.clips == (
        Clip(
            id="video_0900$_$0004",
            split="train",
            labels={"sentiment": -1.0},
            media=table.parent / "Raw" / "video_0900" / "0004.mp4",
            transcript="今天的天气，很好。",
            dialogue="video_0900",
            turn=4,
            attributes={"annotation": "Negative"},
        ),
        Clip(
            id="video_0900$_$0005",
            split="valid",
            labels={"sentiment": 0.6},
            transcript='Yes, "really".',
            dialogue="video_0900",
            turn=5,
            attributes={"annotation": "Positive"},
        ),
        Clip(id="-a$_$b$_$7", split="test", labels={"sentiment": 0.0}, dialogue="-a$_$b", turn=7),
        Clip(id="-a$_$b$_$8_x", split="test", labels={}, transcript="no label", dialogue="-a$_$b"),
    )


def test_unimodal_labels_are_tasks_only_where_their_columns_are_filled(table: Path) -> None:
    corpus = read(table, unimodal=True)
    assert [
        (task.name, task.low, task.high, task.metrics) for task in corpus.tasks if isinstance(task, Regression)
    ] == [
        ("sentiment", -1, 1, "sims"),
        ("sentiment_text", -1, 1, "sims"),
        ("sentiment_audio", -1, 1, "sims"),
    ]
    assert corpus.default_tasks == ("sentiment",)
    assert [clip.labels for clip in corpus.clips] == [
        {"sentiment": -1.0, "sentiment_text": -0.4, "sentiment_audio": 0.2},
        {"sentiment": 0.6},
        {"sentiment": 0.0, "sentiment_audio": 0.0},
        {},
    ]


def test_a_table_without_the_unimodal_columns_will_do(tmp_path: Path) -> None:
    table = tmp_path / "label.csv"
    table.write_text("mode,label,text,clip_id,video_id\ntrain,0.5,hi,1,v\n", encoding="utf-8")
    assert read(table, unimodal=True).clips == (
        Clip("v$_$1", "train", {"sentiment": 0.5}, transcript="hi", dialogue="v", turn=1),
    )


@pytest.mark.parametrize(
    ("mode", "split"),
    [("train", "train"), ("valid", "valid"), ("val", "valid"), ("dev", "valid"), ("Test", "test")],
)
def test_modes(table: Path, mode: str, split: str) -> None:
    add(table, f"v,1,x,0,,,,,{mode}")
    assert read(table).clips[-1].split == split


def test_a_split_through_videos_is_said(table: Path) -> None:
    assert read(table).note == ""  # video_0900 is in train and valid, not in test
    add(table, "video_0900,9,x,0,,,,,test")
    assert read(table).note == "Split by clip, not by video: 1 of 2 test videos also have clips in train."


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("v,1,x,much,,,,,train", r"label\.csv, line 6, column label: could not convert string to float: 'much'"),
        ("v,1,x,1.2,,,,,train", r"label\.csv, line 6, column label: sentiment must lie in \[-1, 1\], not '1.2'"),
        ("v,1,x,nan,,,,,train", r"line 6, column label: sentiment must lie in \[-1, 1\], not 'nan'"),
        ("v,1,x,1,-2,,,,train", r"line 6, column label_T: sentiment_text must lie in \[-1, 1\], not '-2'"),
        ("v,1,x,1,,,,,training", r"line 6, column mode: must be one of train, valid, val, dev, test, not 'training'"),
        ("v,,x,1,,,,,train", r"line 6, column clip_id: must not be empty"),
        (",1,x,1,,,,,train", r"line 6, column video_id: must not be empty"),
        ("v,1,x, y,1,,,,,train", r"line 6: it must have 9 cells"),
        ("video_0900,0004,x,1,,,,,train", r"is not a table of made: .* given twice: video_0900\$_\$0004"),
    ],
)
def test_cells_that_cannot_be_are_named(table: Path, row: str, message: str) -> None:
    add(table, row)
    with pytest.raises(UsageError, match=message):
        read(table, unimodal=True)


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text(HEADER + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"label\.csv is not a table of made: .* has no clips"):
        read(tmp_path / "label.csv")


EMOTIONS = MultiLabel("emotions", ("happy", "sad"))


def rated(tmp_path: Path, columns: str, *cells: str) -> Path:
    path = tmp_path / "rated.csv"
    rows = [f"v,{i},words,0.5,train,{own}" for i, own in enumerate(cells)]
    path.write_text("\n".join([f"video_id,clip_id,text,label,mode,{columns}", *rows]) + "\n", encoding="utf-8")
    return path


def test_emotions_that_are_rated_above_zero_are_present(tmp_path: Path) -> None:
    table = rated(tmp_path, "sad,happy", "0.3333,0", "0,0", "1,3", ",")
    corpus = read_label_csv("made", table, SENTIMENT, emotions=EMOTIONS)
    assert (corpus.tasks, corpus.default_tasks) == ((SENTIMENT, EMOTIONS), ("sentiment",))
    found = [clip.labels.get("emotions") for clip in corpus.clips]
    assert found == [("sad",), (), ("happy", "sad"), None]


def test_tables_without_emotions_have_no_such_task(table: Path) -> None:
    assert read_label_csv("made", table, SENTIMENT, emotions=EMOTIONS) == read(table)


@pytest.mark.parametrize(
    ("columns", "cells", "message"),
    [
        ("sad,happy", "4,0", "line 2, column sad: must be an intensity from 0 to 3, not '4'"),
        ("sad,happy", "1,", "line 2, column happy: must be an intensity from 0 to 3, not ''"),
        ("sad,other", "1,2", "has the columns sad but lacks happy: give all, or none"),
    ],
)
def test_emotions_that_are_none_are_refused(tmp_path: Path, columns: str, cells: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_label_csv("made", rated(tmp_path, columns, cells), SENTIMENT, emotions=EMOTIONS)


def test_a_folder_of_computational_sequences_is_told_where_to_go(tmp_path: Path) -> None:
    (tmp_path / "CMU_MOSI_COVAREP.csd").touch()
    with pytest.raises(UsageError, match=r"holds the CMU-SDK's files: mmsa corpus import .* --name made"):
        read(tmp_path / "label.csv")
