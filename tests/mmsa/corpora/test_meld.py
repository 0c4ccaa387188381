from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip
from mmsa.corpora.meld import load_meld
from mmsa.errors import UsageError

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
TABLES = {
    "train_sent_emo.csv": [
        "1,“You must\u2019ve, surely\u2019” she said,  Chandler ,neutral,neutral,0,0,8,21,x,y",
        '2,"Yes, ""really"".",The Interviewer,surprise,positive,0,1,8,21,x,y',
        "3,cut,Ross,anger,negative,125,3,8,21,x,y",
    ],
    "dev_sent_emo.csv": ["1,Oh!,Phoebe,Sadness,Negative,0,0,4,7,x,y", "2,gone,Joey,joy,positive,110,7,4,7,x,y"],
    "test_sent_emo.csv": [
        "1,Why?,Mark,fear,negative,0,0,3,19,x,y",
        "2,ugh,Rachel,disgust,negative,38,4,3,19,x,y",
        "3,so,Rachel,joy,positive,220,0,3,19,x,y",
        "4,no film,Rachel,joy,positive,1,2,3,19,x,y",
    ],
}
MEDIA = [
    *(f"train_splits/{name}.mp4" for name in ("dia0_utt0", "dia0_utt1", "dia125_utt3")),
    *(f"dev_splits_complete/{name}.mp4" for name in ("dia0_utt0", "dia110_utt7", "dia66_utt9")),
    *(f"output_repeated_splits_test/{name}.mp4" for name in ("dia0_utt0", "dia38_utt4", "dia220_utt0")),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small corpus in the official layout, with the clips that the official release carries broken."""
    for name, rows in TABLES.items():
        # As released: quotes only where a comma asks for them.
        rows = [row.replace("“You must\u2019ve, surely\u2019”", '"“You must\u2019ve, surely\u2019”"') for row in rows]
        (tmp_path / name).write_text("\r\n".join([HEADER, *rows]) + "\r\n", encoding="utf-8")
    for path in MEDIA:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


def by_id(root: Path) -> dict[str, Clip]:
    return {clip.id: clip for clip in load_meld(root).clips}


def test_every_row_becomes_a_clip_of_its_split(root: Path) -> None:
    corpus = load_meld(root)
    assert {split: len(corpus.split(split)) for split in ("train", "valid", "test")} == {
        "train": 3,
        "valid": 2,
        "test": 4,
    }
    assert [task.name for task in corpus.tasks] == ["emotion", "sentiment"]


def test_a_row_is_read_whole(root: Path) -> None:
    assert by_id(root)["train_dia0_utt0"] == Clip(
        id="train_dia0_utt0",
        split="train",
        labels={"emotion": "neutral", "sentiment": "neutral"},
        media=root / "train_splits" / "dia0_utt0.mp4",
        transcript="“You must've, surely'” she said",
        speaker="Chandler",
        dialogue="train_0",
        turn=0,
    )
    second = by_id(root)["train_dia0_utt1"]
    assert (second.transcript, second.turn) == ('Yes, "really".', 1)


def test_labels_are_read_in_any_case(root: Path) -> None:
    assert by_id(root)["valid_dia0_utt0"].labels == {"emotion": "sadness", "sentiment": "negative"}


def test_dialogues_of_different_splits_are_different(root: Path) -> None:
    assert {clip.dialogue for clip in by_id(root).values() if clip.id.endswith("dia0_utt0")} == {
        "train_0",
        "valid_0",
        "test_0",
    }


def test_broken_clips_are_text_only(root: Path) -> None:
    """declare-lab/MELD issues 52, 27 and 20: unreadable, missing, or minutes long."""
    clips = by_id(root)
    for key in ("train_dia125_utt3", "valid_dia110_utt7", "test_dia38_utt4", "test_dia220_utt0"):
        assert clips[key].media is None
        assert clips[key].transcript


def test_a_clip_without_its_file_is_text_only(root: Path) -> None:
    assert by_id(root)["test_dia1_utt2"].media is None
    assert by_id(root)["test_dia0_utt0"].media == root / "output_repeated_splits_test" / "dia0_utt0.mp4"


def test_the_test_split_may_lie_in_test_splits(root: Path) -> None:
    (root / "output_repeated_splits_test").rename(root / "test_splits")
    assert by_id(root)["test_dia0_utt0"].media == root / "test_splits" / "dia0_utt0.mp4"


def test_unlabelled_extra_media_is_left_alone(root: Path) -> None:
    assert "valid_dia66_utt9" not in by_id(root)


def test_missing_tables_are_all_named(root: Path) -> None:
    (root / "train_sent_emo.csv").unlink()
    (root / "test_sent_emo.csv").unlink()
    with pytest.raises(UsageError, match=r"not MELD's official layout: train_sent_emo\.csv, test_sent_emo\.csv not"):
        load_meld(root)


def test_missing_columns_are_named(root: Path) -> None:
    (root / "dev_sent_emo.csv").write_text("Utterance,Speaker,Emotion,Dialogue_ID\nOh,A,joy,1\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"dev_sent_emo\.csv lacks the columns Sentiment, Utterance_ID; it has \['Utt"):
        load_meld(root)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("9,Hm,A,bored,neutral,9,9,8,21,x,y", "emotion must be one of neutral, .* not 'bored'"),
        ("9,Hm,A,joy,positive,0,0,8,21,x,y", "clip ids must be unique; given twice: train_dia0_utt0"),
        ("9,Hm,A,joy,positive,0,first,8,21,x,y", "'first'"),
        ("9,Hm", "''"),
    ],
)
def test_rows_that_meld_does_not_have_are_refused(root: Path, row: str, message: str) -> None:
    with (root / "train_sent_emo.csv").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    with pytest.raises(UsageError, match=f"are not MELD's: .*{message}"):
        load_meld(root)


def test_a_table_that_is_not_utf_8_is_refused(root: Path) -> None:
    (root / "dev_sent_emo.csv").write_bytes(HEADER.encode() + b"\n1,\x92,A,joy,positive,0,0,8,21,x,y\n")
    with pytest.raises(UsageError, match="are not MELD's: 'utf-8' codec can't decode"):
        load_meld(root)


needs_real = pytest.mark.skipif(
    not (Path(os.environ.get("MMSA_DATA", "/nowhere")) / "meld").is_dir(), reason="MMSA_DATA holds no meld"
)


@needs_real
def test_the_real_tables_hold_what_was_published() -> None:
    """Counts from the README of declare-lab/MELD."""
    corpus = load_corpus("meld")
    assert [len(corpus.split(split)) for split in ("train", "valid", "test")] == [9989, 1109, 2610]
    dialogues = {split: len({c.dialogue for c in corpus.split(split)}) for split in ("train", "valid", "test")}
    # The README counts 1039, 114 and 280; one number of the training split has no row.
    assert dialogues == {"train": 1038, "valid": 114, "test": 280}
    assert Counter(clip.labels["emotion"] for clip in corpus.split("train")) == {
        "neutral": 4710,
        "joy": 1743,
        "surprise": 1205,
        "anger": 1109,
        "sadness": 683,
        "disgust": 271,
        "fear": 268,
    }


@needs_real
def test_real_apostrophes_become_ascii() -> None:
    clips = load_corpus("meld").clips
    assert not [clip.id for clip in clips if "\u2019" in (clip.transcript or "")]
    assert next(c.transcript for c in clips if c.id == "train_dia0_utt1") == "You must've had your hands full."


@needs_real
def test_real_clips_are_those_of_the_tables() -> None:
    with (Path(os.environ["MMSA_DATA"]) / "meld" / "test_sent_emo.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    clips = load_corpus("meld").split("test")
    assert [(c.turn, c.speaker, c.labels["sentiment"]) for c in clips] == [
        (int(row["Utterance_ID"]), row["Speaker"].strip(), row["Sentiment"]) for row in rows
    ]
