from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsa.scoring
from mmsa.scoring.results import (
    ModalityScore,
    Moment,
    Score,
    Summary,
    TaskScore,
    TaskSummary,
    WindowScore,
    number,
)

WORDS = TaskScore(label="joy", probabilities={"joy": 0.75, "anger": 0.25})
SEVERAL = TaskScore(labels=("joy",), probabilities={"joy": 0.9, "awe": 0.1})
VALUE = TaskScore(value=0.5, interval=(-0.25, 1.0))
WINDOW = WindowScore(
    number=3,
    start_seconds=1.5,
    end_seconds=3.5,
    scores={"sentiment": VALUE, "emotion": WORDS, "moods": SEVERAL},
    smoothed={"sentiment": TaskScore(value=0.25), "emotion": WORDS, "moods": SEVERAL},
    modalities={
        "audio": ModalityScore(True, None, 7, 1.0, {"sentiment": 0.1}, {"sentiment": TaskScore(value=0.1)}),
        "text": ModalityScore(False, "no words", 0, 0.0),
    },
    text="oh </script>",
    speaker="Anna",
    notes=("odd",),
)
MOMENT = Moment(2.5, 0.5, 3)
SUMMARY = Summary(
    {
        "sentiment": TaskSummary(0.5, 0.1, MOMENT, MOMENT, MOMENT, MOMENT),
        "emotion": TaskSummary(probabilities={"joy": 0.75}, shares={"joy": 1.0}, peaks={"joy": MOMENT}),
    },
    {"audio": 1.0, "text": 0.0},
    1,
    1,
)
MODEL = {"digest": "0" * 32, "corpus": "made", "note": "", "calibration": "none"}
OPTIONS = {"window_seconds": 2.0, "hop_seconds": 1.0, "segments": None, "smooth_seconds": None}
FULL = Score(
    path="a b.mp4",
    id="one",
    start_seconds=1.0,
    end_seconds=4.0,
    duration_seconds=3.0,
    windows=(WINDOW,),
    summary=SUMMARY,
    notes=("cut off",),
    extra={"who": "me"},
    model=MODEL,
    options=OPTIONS,
    key="a" * 32,
)
FAILED = Score(path="b.mp4", error="no such file", model=MODEL, options=OPTIONS)


@pytest.mark.parametrize("score", [FULL, FAILED], ids=["full", "failed"])
def test_a_row_reads_back_as_the_same_result(score: Score) -> None:
    assert Score.from_dict(json.loads(json.dumps(score.to_dict()))) == score


def test_an_error_row_has_nothing_of_a_result() -> None:
    row = FAILED.to_dict()
    assert row["error"] == "no such file"
    assert not {"windows", "summary", "notes", "duration_seconds"} & set(row)


@pytest.mark.parametrize("score", [FULL, FAILED], ids=["full", "failed"])
def test_rows_are_valid_by_the_published_schema(score: Score) -> None:
    import jsonschema

    path = Path(mmsa.scoring.__file__).with_name("schema.json")
    schema = json.loads(path.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    row = json.loads(json.dumps(score.to_dict()))
    validator.validate(row)
    for broken in ({**row, "schema": "mmsa.score/1"}, {**row, "more": 1}, {**row, "path": None}):
        assert not validator.is_valid(broken)


def test_a_row_of_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match=r"schema 'mmsa.score/1', but 'mmsa.score/2'"):
        Score.from_dict({"schema": "mmsa.score/1", "path": "a"})


def test_what_is_missing_and_where_the_middle_is() -> None:
    assert WINDOW.missing == {"text": "no words"}
    assert WINDOW.middle_seconds == 2.5


def test_one_window_speaks_for_its_clip_and_several_do_not() -> None:
    assert FULL.scores is WINDOW.scores
    several = Score("a.mp4", windows=(WINDOW, WINDOW))
    assert (several.scores, several.modalities) == ({}, {})


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_numbers_keep_what_float32_can_tell(value: float) -> None:
    assert number(value) == pytest.approx(value, rel=5e-7)
    assert number(number(value)) == number(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        number(value)


def test_a_frame_has_a_row_per_window() -> None:
    table = Score("a.mp4", windows=(WINDOW, WINDOW)).to_frame()
    assert list(table["sentiment"]) == [0.5, 0.5]
    assert list(table["emotion"]) == ["joy", "joy"]
    assert list(table["sentiment.low"]) == [-0.25, -0.25]
