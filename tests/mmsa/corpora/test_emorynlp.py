from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip
from mmsa.corpora.emorynlp import load_emorynlp
from mmsa.errors import UsageError

HEADER = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,Start_Time,End_Time"
TABLES = {
    "train": [
        '"Look, a ""test""!",[\'Made Up\'],Scared,1,6,1,15,00:01:30.000,00:01:33.250',
        'A row!,"[\'Made Up\', ""Someone O\'Else""]",Sad,2,9,4,17,00:02:45.000,00:02:46.500',
    ],
    "dev": ["Hm.,['Steve (driver)'],peaceful,1,6,1,15,00:00:03.500,00:00:05.250"],
    "test": [",['Made Up'],Powerful,1,1,1,15,00:00:03.500,00:00:05.250"],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, rows in TABLES.items():
        (tmp_path / f"emorynlp_{name}_final.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    for path in ("train_splits/sea1_ep15_sc1_utt6.mp4", "train_splits/sea4_ep17_sc2_utt9.mp4"):
        (tmp_path / f"emorynlp_{path}").parent.mkdir(exist_ok=True)
        (tmp_path / f"emorynlp_{path}").touch()
    return tmp_path


def test_every_row_becomes_a_clip_of_its_split(root: Path) -> None:
    corpus = load_emorynlp(root)
    assert [(clip.id, clip.split, clip.dialogue, clip.turn, clip.labels["emotion"]) for clip in corpus.clips] == [
        ("train_sea1_ep15_sc1_utt6", "train", "train_sea1_ep15_sc1", 6, "scared"),
        ("train_sea4_ep17_sc2_utt9", "train", "train_sea4_ep17_sc2", 9, "sad"),
        ("valid_sea1_ep15_sc1_utt6", "valid", "valid_sea1_ep15_sc1", 6, "peaceful"),
        ("test_sea1_ep15_sc1_utt1", "test", "test_sea1_ep15_sc1", 1, "powerful"),
    ]
    assert [task.name for task in corpus.tasks] == ["emotion"]


def test_a_row_is_read_whole(root: Path) -> None:
    assert load_emorynlp(root).clips[0] == Clip(
        id="train_sea1_ep15_sc1_utt6",
        split="train",
        labels={"emotion": "scared"},
        media=root / "emorynlp_train_splits" / "sea1_ep15_sc1_utt6.mp4",
        transcript='Look, a "test"!',
        speaker="Made Up",
        dialogue="train_sea1_ep15_sc1",
        turn=6,
        attributes={"start_in_episode": "00:01:30.000", "end_in_episode": "00:01:33.250"},
    )


def test_several_speakers_and_none_of_the_words(root: Path) -> None:
    clips = load_emorynlp(root).clips
    assert [clip.speaker for clip in clips] == ["Made Up", "Made Up, Someone O'Else", "Steve (driver)", "Made Up"]
    assert clips[3].transcript is None
    # The media of another split is not taken for this one's.
    assert clips[2].media is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Hm,['A'],Bored,1,7,1,1,x,y", "line 4, column Emotion: must be one of joyful, .* scared, not 'Bored'"),
        ("Hm,A,Sad,1,7,1,1,x,y", r"line 4, column Speaker: must be a list of names such as \['Ross Geller'\], not 'A'"),
        ("Hm,['A',Sad,1,7,1,1,x,y", "line 4, column Speaker: must be a list of names"),
        ("Hm,['A'],Sad,1,7,1,1,x", "line 4: it must have 9 cells"),
        ('Hm,"[1, 2]",Sad,1,7,1,1,x,y', r"line 4, column Speaker: must be a list of names .* not '\[1, 2\]'"),
        ("Hm,__import__('os'),Sad,1,7,1,1,x,y", "line 4, column Speaker: must be a list of names"),
        ("Hm,['A'],Sad,one,7,1,1,x,y", "line 4, column Scene_ID: must be a whole number, not 'one'"),
        ("Hm,['A'],Sad,1,6,1,15,x,y", "are not EmoryNLP's: .* given twice: train_sea1_ep15_sc1_utt6"),
    ],
)
def test_rows_that_cannot_be_are_named(root: Path, row: str, message: str) -> None:
    with (root / "emorynlp_train_final.csv").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    with pytest.raises(UsageError, match=message):
        load_emorynlp(root)


def test_a_missing_table_is_named(root: Path) -> None:
    (root / "emorynlp_dev_final.csv").unlink()
    with pytest.raises(UsageError, match=r"emorynlp_dev_final\.csv not found"):
        load_emorynlp(root)


@pytest.mark.skipif(
    not (Path(os.environ.get("MMSA_DATA", "/nowhere")) / "emorynlp").is_dir(), reason="MMSA_DATA holds no emorynlp"
)
def test_the_real_tables_hold_what_was_published() -> None:
    """Zahiri and Choi: 12,606 utterances in 897 scenes of 97 episodes."""
    corpus = load_corpus("emorynlp")
    assert [len(corpus.split(split)) for split in ("train", "valid", "test")] == [9934, 1344, 1328]
