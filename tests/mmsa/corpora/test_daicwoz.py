from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.check import check_corpus
from mmsa.corpora.clip import Clip
from mmsa.corpora.daicwoz import DEPRESSION, PHQ8, Turn, load_daicwoz, read_turns
from mmsa.errors import UsageError
from mmsa.precomputed import open_precomputed

HEADER = "Participant_ID,PHQ8_Binary,PHQ8_Score,Gender,PHQ8_NoInterest,PHQ8_Depressed"
TRAIN = ["303,0,0,0,0,0", "409,0,10,1,2,1", "373,1,14,1,2,2", "451,1,20,0,3,3"]
DEV = ["302,0,4,1,1,0", "318,0,3,0,0,1"]
TEST = ["300,0,2,1", "381,1,16,1"]

# start, stop, speaker, value: two turns before the interview, a mark, and the interview.
LINES = [
    ("2.1", "3.0", "Participant", "okay is it on"),
    ("5.0", "6.0", "Ellie", "hi i'm ellie  thanks for coming in today"),
    ("6.5", "7.0", "Participant", "<synch>"),
    ("7.0", "7.5", "Participant", "[syncing]."),
    ("10.0", "12.0", "Participant", 'i\'m "good" <laughter>'),
    ("13.0", "14.0", "", "nobody"),
    ("14.0", "15.0", "Participant", ""),
    ("394.0", "396.0", "Participant", "somebody is at the door"),
    ("500.0", "501.0", "Ellie", "how do you sleep"),
    ("502.0", "505.0", "Participant", "the synchronizer kept me awake"),
]
Session = Callable[..., Path]


def transcript(lines: Sequence[Sequence[str]]) -> str:
    return (
        "\r\n".join("\t".join(line) for line in [("start_time", "stop_time", "speaker", "value"), *lines, ()]) + "\r\n"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "daicwoz"
    folder.mkdir()
    (folder / "train_split_Depression_AVEC2017.csv").write_text("\n".join([HEADER, *TRAIN, ",,,,,"]) + "\n")
    (folder / "dev_split_Depression_AVEC2017.csv").write_text("\n".join([HEADER, *DEV]) + "\n")
    (folder / "full_test_split.csv").write_text("\n".join(["Participant_ID,PHQ_Binary,PHQ_Score,Gender", *TEST]) + "\n")
    return folder


@pytest.fixture
def session(root: Path) -> Session:
    def made(participant: int, lines: Sequence[Sequence[str]] = LINES, folder: str = "{}_P") -> Path:
        path = root / folder.format(participant)
        path.mkdir(exist_ok=True)
        (path / f"{participant}_TRANSCRIPT.csv").write_text(transcript(lines), encoding="utf-8")
        (path / f"{participant}_AUDIO.wav").touch()
        return path

    return made


def clips(root: Path, **options: bool) -> dict[str, Clip]:
    return {clip.id: clip for clip in load_daicwoz(root, **options).clips}


def test_a_session_is_a_clip_with_the_participant_s_turns(root: Path, session: Session) -> None:
    path = session(303)
    corpus = load_daicwoz(root)
    assert (corpus.name, corpus.tasks, corpus.default_tasks) == ("daicwoz", (DEPRESSION, PHQ8), ("depression",))
    assert corpus.note == "Transcripts hold the participant's turns alone."
    assert [len(corpus.split(split)) for split in ("train", "valid", "test")] == [4, 2, 2]
    assert corpus.clips[0] == Clip(
        id="303",
        split="train",
        labels={"depression": "not depressed", "phq8": 0.0},
        media=path / "303_AUDIO.wav",
        transcript='i\'m "good" <laughter>\nsomebody is at the door\nthe synchronizer kept me awake',
        speaker="303",
        attributes={"gender": "0"},
    )


def test_the_interviewer_s_turns_can_be_had(root: Path, session: Session) -> None:
    session(303)
    corpus = load_corpus("daicwoz-interviewer", root)
    assert corpus.clips[0].transcript == (
        "Ellie: hi i'm ellie thanks for coming in today\nParticipant: i'm \"good\" <laughter>\n"
        "Participant: somebody is at the door\nEllie: how do you sleep\nParticipant: the synchronizer kept me awake"
    )
    assert "gives depression away" in corpus.note


def test_known_defects_are_handled_by_number(root: Path, session: Session) -> None:
    session(373)
    session(451, [line for line in LINES if line[2] != "Ellie"])
    session(318)
    found = clips(root)
    # From 395 to 428 s someone else is in the room.
    assert found["373"].transcript == 'i\'m "good" <laughter>\nthe synchronizer kept me awake'
    assert found["373"].attributes["defect"] == "interrupted from 395 s to 428 s: left out of the transcript"
    # Without the interviewer's turns nothing says where the interview begins.
    assert str(found["451"].transcript).startswith("okay is it on\ni'm")
    assert "lacks the interviewer" in found["451"].attributes["defect"]
    assert found["318"].attributes["defect"] == "transcript and sound are 34.3 s apart"
    assert "defect" not in found["303"].attributes


def test_a_score_of_ten_is_depression_whatever_the_table_says(root: Path) -> None:
    """Participant 409 of the release."""
    found = clips(root)
    assert found["409"].labels == {"depression": "depressed", "phq8": 10.0}
    assert found["409"].attributes == {"gender": "1", "binary_in_table": "0"}
    assert found["381"].labels == {"depression": "depressed", "phq8": 16.0}
    assert found["302"].labels == {"depression": "not depressed", "phq8": 4.0}
    assert [c.id for c in found.values() if "binary_in_table" in c.attributes] == ["409"]


def test_without_labels_the_test_split_is_said_to_have_none(root: Path) -> None:
    (root / "full_test_split.csv").unlink()
    (root / "test_split_Depression_AVEC2017.csv").write_text("participant_ID,Gender\n300,1\n", encoding="utf-8")
    corpus = load_daicwoz(root)
    assert [(c.id, dict(c.labels)) for c in corpus.split("test")] == [("300", {})]
    assert corpus.note.endswith("put full_test_split.csv beside the other tables.")


def test_sessions_that_are_not_there_have_labels_alone_and_other_places_are_looked_in(
    root: Path, session: Session
) -> None:
    session(303, folder="{}")
    session(302, folder=".")
    found = clips(root)
    assert found["303"].media == root / "303" / "303_AUDIO.wav"
    assert found["302"].media == root / "302_AUDIO.wav"
    assert (found["300"].media, found["300"].transcript) == (None, None)
    report = check_corpus(load_daicwoz(root))
    assert ("clip", "300") in {(f.kind, f.clip) for f in report.findings if f.severity == "problem"}


def test_sessions_that_the_release_leaves_out_are_left_out(root: Path) -> None:
    with (root / "full_test_split.csv").open("a", encoding="utf-8") as file:
        file.write("342,0,1,1\n")
    assert "342" not in clips(root)


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        (
            "train_split_Depression_AVEC2017.csv",
            "x,0,1,0,0,0",
            "column Participant_ID: must be a whole number, not 'x'",
        ),
        ("train_split_Depression_AVEC2017.csv", "999,0,25,0,0,0", "column PHQ8_Score: must lie from 0 to 24, not 25"),
        ("train_split_Depression_AVEC2017.csv", "999,2,5,0,0,0", "column PHQ8_Binary: must lie from 0 to 1, not 2"),
        ("full_test_split.csv", "303,0,5,0", "not DAIC-WOZ's: .*given twice: 303"),
    ],
)
def test_tables_that_hold_what_they_cannot_are_refused(root: Path, table: str, row: str, message: str) -> None:
    with (root / table).open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    with pytest.raises(UsageError, match=message):
        load_daicwoz(root)


def test_missing_tables_and_columns_are_named(root: Path) -> None:
    (root / "full_test_split.csv").write_text("ID,PHQ_Score\n300,1\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"full_test_split\.csv lacks the column Participant_ID; it has ID, PHQ_Score"):
        load_daicwoz(root)
    (root / "full_test_split.csv").unlink()
    with pytest.raises(UsageError, match=r"full_test_split\.csv not found"):
        load_daicwoz(root)


def test_turns_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(transcript(LINES[:2]), encoding="utf-8-sig")
    assert list(read_turns(tmp_path / "a.csv")) == [
        Turn(2.1, 3.0, "Participant", "okay is it on"),
        Turn(5.0, 6.0, "Ellie", "hi i'm ellie thanks for coming in today"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\x00\x05\x16\x07\xb0Mac OS X",
            r"not text in UTF-8: a system file of the same name\? Unpack the session",
        ),
        (
            b"start_time,stop_time,speaker,value\n1,2,Ellie,hi\n",
            "lacks the tab-separated columns start_time, ",
        ),
        (b"start_time\tstop_time\tspeaker\tvalue\nx\t2\tEllie\thi\n", "a.csv, line 2: start and stop must be seconds"),
    ],
)
def test_transcripts_of_another_form_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        list(read_turns(tmp_path / "a.csv"))


def test_openface_s_features_can_be_had_as_vision(root: Path, session: Session) -> None:
    folder = session(303)
    for kind, column in (("AUs", "AU01_r"), ("gaze", "x_0"), ("pose", "Tx")):
        rows = [f"{i + 1}, {i / 2}, 0.9, 1, {i}" for i in range(4)]
        (folder / f"303_CLNF_{kind}.txt").write_text(
            "\n".join([f"frame, timestamp, confidence, success, {column}", *rows])
        )
    corpus = load_corpus("daicwoz-clnf", root)
    assert corpus.name == "daicwoz-clnf"
    table = open_precomputed(corpus, "vision")
    # Two frames a second: the means of 0 and 1, and of 2 and 3.
    assert table.sequence(0).values.tolist() == [[0.5] * 3, [2.5] * 3]
    assert len(table.missing) == 7
