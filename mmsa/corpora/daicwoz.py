"""DAIC-WOZ: depression in interviews that a virtual agent, "Ellie", leads while a person steers her from another room.

Gratch et al., "The Distress Analysis Interview Corpus of human and computer interviews", LREC 2014; the splits are
those of AVEC 2017. The corpus is given out against a signed form: this adapter follows published descriptions of its
layout and could not be run on the release itself. The folder holds

| file | content |
| --- | --- |
| `train_split_Depression_AVEC2017.csv`, `dev_split_…` | `Participant_ID, PHQ8_Binary, PHQ8_Score, Gender, …` |
| `full_test_split.csv` | `Participant_ID, PHQ_Binary, PHQ_Score, Gender` |
| `test_split_Depression_AVEC2017.csv` | `participant_ID, Gender`: read where there is no `full_test_split.csv` |
| `300_P/300_TRANSCRIPT.csv` | tab-separated `start_time, stop_time, speaker, value` |
| `300_P/300_AUDIO.wav` | sound of the whole session |
| `300_P/300_CLNF_….txt` | OpenFace's features (`mmsa.corpora.clnf`); the picture itself is not given out |

COVAREP's and formants' tables are not read: the sound is there. A clip is a session, and its transcript the
participant's turns, a line each. Ellie's are left out: models learn from which questions are asked who is depressed
(Burdisso et al., "DAIC-WOZ: On the Validity of Using the Therapist's prompts in Automatic Depression Detection from
Clinical Interviews", ClinicalNLP 2024). The sound is the session's, her faint voice included. What is said before her
first turn, and marks of synchronisation, are not part of the interview and are left out as well.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.corpora.rows import Row, read_rows
from mmsa.errors import UsageError
from mmsa.tasks import Classification, Label, Regression

FILES: dict[Split, tuple[str, ...]] = {
    "train": ("train_split_Depression_AVEC2017.csv",),
    "valid": ("dev_split_Depression_AVEC2017.csv",),
    "test": ("full_test_split.csv", "test_split_Depression_AVEC2017.csv"),
}
"""Table of each split: the first that is there."""

DEPRESSION = Classification("depression", ("not depressed", "depressed"))
PHQ8 = Regression("phq8", 0.0, 24.0)
CUTOFF = 10
"""PHQ-8 score from which a participant counts as depressed (Kroenke et al., 2009), as in the release's own labels."""

EXCLUDED = frozenset({342, 394, 398, 460})
"""Sessions that the release leaves out for technical reasons; they are in no split."""

INTERRUPTED: Mapping[int, tuple[float, float]] = {373: (395.0, 428.0), 444: (286.0, 387.0)}
"""Seconds in which someone else comes in or an alarm goes off: turns that reach into them are left out.

This and what follows is from the published preprocessing of Bailey and Plumbley, "Gender Bias in Depression Detection
Using Audio Features", EUSIPCO 2021."""

WITHOUT_INTERVIEWER = frozenset({451, 458, 480})
"""Sessions in whose transcripts Ellie's turns are missing."""

SHIFTED: Mapping[int, float] = {318: 34.319917, 321: 3.8379167, 341: 6.1892, 362: 16.8582}
"""Sessions whose transcripts are so many seconds apart from the sound, which matters where sound is cut by them."""

SYNCHRONISATION = re.compile(r"[<\[]\s*sync(?:h|ing|hing)?\b[^>\]]*[>\]]?\W*", re.IGNORECASE)
INTERVIEWER, PARTICIPANT = "Ellie", "Participant"
COLUMNS = ("start_time", "stop_time", "speaker", "value")
NOTE = "Transcripts hold the participant's turns alone."
BOTH_NOTE = "Transcripts hold the interviewer's turns too: which questions she asks gives depression away."
UNLABELLED_NOTE = "The test split has no labels: put full_test_split.csv beside the other tables."


@dataclass(frozen=True)
class Turn:
    """One line of a transcript.

    Attributes:
        start_seconds: in the session.
        end_seconds: in the session.
        speaker: `Ellie` or `Participant`.
        text: what is said, with laughter and the like as `<laughter>`.
    """

    start_seconds: float
    end_seconds: float
    speaker: str
    text: str


def load_daicwoz(root: Path, *, interviewer: bool = False, clnf: bool = False) -> Corpus:
    """Read the release; sessions whose folder is not there have labels alone.

    The tasks are `depression`, which is learned by default, and `phq8`, the score of the questionnaire. Where a table's
    yes or no contradicts its score, as participant 409's does, the score decides, and the attribute `binary_in_table`
    keeps what the table has. Other attributes: `gender` (the table's number) and `defect`.

    Args:
        root: the folder.
        interviewer: whether transcripts hold Ellie's turns too, each line beginning with who speaks.
        clnf: whether OpenFace's features are read as vision, which takes a while the first time.

    Raises:
        UsageError: a table is missing, or a file holds what it cannot.
    """
    clips: list[Clip] = []
    for split, names in FILES.items():
        table = next((path for name in names if (path := root / name).is_file()), root / names[0])
        rows = (row for row in read_rows(table, ()) if any(cell.strip() for cell in row.cells.values()))
        clips += (_clip(root, row, split, interviewer) for row in rows if _participant(row) not in EXCLUDED)
    labelled = any(clip.labels for clip in clips if clip.split == "test")
    notes = (BOTH_NOTE if interviewer else NOTE, "" if labelled else UNLABELLED_NOTE)
    name = "daicwoz" + "-interviewer" * interviewer + "-clnf" * clnf
    try:
        tasks = (DEPRESSION, PHQ8)
        corpus = Corpus(name, tuple(clips), tasks, " ".join(filter(None, notes)), default_tasks=(DEPRESSION.name,))
    except ValueError as error:
        raise UsageError(f"the tables in {root} are not DAIC-WOZ's: {error}") from None
    if not clnf:
        return corpus
    from mmsa.corpora.clnf import store_clnf

    folders = {clip.id: _session(root, int(clip.id)) for clip in clips}
    return replace(corpus, features={"vision": store_clnf(corpus.name, corpus.clips, folders)})


load_with_interviewer = partial(load_daicwoz, interviewer=True)
load_with_clnf = partial(load_daicwoz, clnf=True)


def _participant(row: Row) -> int:
    column = next((name for name in row.cells if name.strip().lower() == "participant_id"), None)
    if column is None:
        raise UsageError(f"{row.path} lacks the column Participant_ID; it has {', '.join(row.cells)}")
    return row.integer(column)


def _session(root: Path, participant: int) -> Path:
    """The folder of a session: as its archive unpacks, under its number, or all sessions in one."""
    folders = (root / f"{participant}_P", root / str(participant))
    return next((folder for folder in folders if folder.is_dir()), root)


def _clip(root: Path, row: Row, split: Split, interviewer: bool) -> Clip:
    participant = _participant(row)
    folder = _session(root, participant)
    labels, corrected = _labels(row)
    audio, transcript = folder / f"{participant}_AUDIO.wav", folder / f"{participant}_TRANSCRIPT.csv"
    said = _transcript(transcript, participant, interviewer) if transcript.is_file() else ""
    attributes = {"gender": row.get("Gender"), "defect": _defect(participant), **corrected}
    return Clip(
        id=str(participant),
        split=split,
        labels=labels,
        media=audio if audio.is_file() else None,
        transcript=said or None,
        speaker=str(participant),
        attributes={key: value for key, value in attributes.items() if value},
    )


def _defect(participant: int) -> str:
    if participant in INTERRUPTED:
        start, end = INTERRUPTED[participant]
        return f"interrupted from {start:g} s to {end:g} s: left out of the transcript"
    if participant in WITHOUT_INTERVIEWER:
        return "the transcript lacks the interviewer's turns"
    if participant in SHIFTED:
        return f"transcript and sound are {SHIFTED[participant]:.1f} s apart"
    return ""


def _labels(row: Row) -> tuple[dict[str, Label], dict[str, str]]:
    """Labels by task, and what the table has where it contradicts itself."""
    score = _number(row, ("PHQ8_Score", "PHQ_Score"), PHQ8.high)
    binary = _number(row, ("PHQ8_Binary", "PHQ_Binary"), 1)
    labels: dict[str, Label] = {} if score is None else {PHQ8.name: float(score)}
    depressed = binary if score is None else int(score >= CUTOFF)
    if depressed is not None:
        labels[DEPRESSION.name] = DEPRESSION.classes[depressed]
    contradicted = binary is not None and binary != depressed
    return labels, {"binary_in_table": str(binary)} if contradicted else {}


def _number(row: Row, columns: tuple[str, ...], highest: float) -> int | None:
    """A whole number from 0 on, from the column that the table has; None where it is empty."""
    column = next((name for name in columns if row.get(name)), None)
    if column is None:
        return None
    value = row.integer(column)
    if not 0 <= value <= highest:
        raise row.error(column, f"must lie from 0 to {highest:g}, not {value}")
    return value


def _transcript(path: Path, participant: int, interviewer: bool) -> str:
    turns = list(read_turns(path))
    first = next((i for i, turn in enumerate(turns) if turn.speaker == INTERVIEWER), 0)
    start, end = INTERRUPTED.get(participant, (math.inf, math.inf))
    kept = [
        turn
        for turn in turns[first:]
        if not (turn.start_seconds < end and turn.end_seconds > start) and not SYNCHRONISATION.fullmatch(turn.text)
    ]
    if interviewer:
        return "\n".join(f"{turn.speaker}: {turn.text}" for turn in kept)
    return "\n".join(turn.text for turn in kept if turn.speaker == PARTICIPANT)


def read_turns(path: Path) -> Iterator[Turn]:
    """The turns of a transcript, in its order; lines without a speaker or words are passed over.

    Raises:
        UsageError: it is not of DAIC-WOZ's form.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise UsageError(
                    f"{path} lacks the tab-separated columns {', '.join(absent)}; it has {reader.fieldnames}"
                )
            for cells in reader:
                speaker, text = cells["speaker"].strip(), " ".join(cells["value"].split())
                if not speaker or not text:
                    continue
                try:
                    yield Turn(float(cells["start_time"]), float(cells["stop_time"]), speaker, text)
                except ValueError:
                    raise UsageError(f"{path}, line {reader.line_num}: start and stop must be seconds") from None
    except UnicodeDecodeError:
        raise UsageError(
            f"{path} is not text in UTF-8: a system file of the same name? Unpack the session again"
        ) from None
    except csv.Error as error:
        raise UsageError(f"{path} is not a transcript: {error}") from None
