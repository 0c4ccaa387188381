from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from mmsa.benchmarking.facts import CorpusFacts
from mmsa.benchmarking.publish import as_json, cells, leaderboard, markdown, publish
from mmsa.benchmarking.report import Report
from mmsa.benchmarking.rows import Comparison, Row, Value
from mmsa.benchmarking.slices import Cell, SliceTable
from mmsa.benchmarking.statistics import Interval
from mmsa.benchmarking.store import Result

NAN = float("nan")


def value(runs: tuple[float, ...], mean: float, std: float, test: Comparison | None = None) -> Value:
    return Value(runs, mean, std, Interval(mean - 0.1, mean + 0.1, "BCa"), test)


def row(name: str, mae: Value, corr: Value, **changes: object) -> Row:
    own = Row(
        name=name, head="late", modalities=("audio", "text"), seeds=(1, 2), values={"s.mae": mae, "s.corr": corr},
        reference="late", parameters=12345, train_seconds=3.25, epochs=7.0, options={}, choice={}, runs=("r1", "r2"),
    )  # fmt: skip
    return replace(own, **changes)  # type: ignore[arg-type]


@pytest.fixture
def report(result: Result) -> Report:
    rows = (
        row("tfn", value((0.9, 0.9), 0.9, 0.0, Comparison(-0.1, 0.0004, 0.0008, True)), value((0.7, 0.8), 0.75, 0.05)),
        row("late", value((1.0, 1.0), 1.0, 0.0123), value((0.6, 0.7), 0.65, 0.05), reference=None),
        row("svm", value((1.1,), 1.1, NAN, Comparison(0.1, 0.02, 0.04, False)), value((0.5,), 0.5, NAN), seeds=(None,)),
        row("early", value((1.2,), 1.2, NAN, Comparison(0.2, 0.3, 0.3, False)), value((NAN,), NAN, NAN)),
    )
    slices = (
        SliceTable("class", "s.mae", (("low", 3), ("high", 4)), {"tfn": (Cell(1.0, 0.25), Cell(NAN, NAN))}, "By sign."),
        SliceTable("speaker", "s.mae", (), {}, "Nobody says who speaks."),
    )
    return Report(
        name="mine", command="mmsa benchmark mine.yaml --jobs 2", metrics=("s.mae", "s.corr"), rows=rows,
        corpora=(CorpusFacts("made", "Made up.", {"train": 4, "valid": 2, "test": 6}, {}),), seeds=(1, 2),
        reference="late", clusters=("dialogue", 31), resamples=999, features={"text": ("text.made (none 1)",)},
        settings={"corpus": "made", "modalities": ["audio", "text"], "extractors": {"text": {"name": "x"}}},
        machines=("2 cores, made up",), versions={"torch": ("1", "2")}, notes=("A note.",), slices=slices,
        results=tuple(replace(result, row=own.name, seed=seed) for own in rows for seed in own.seeds[:1]),
    )  # fmt: skip


def test_cells(report: Report) -> None:
    header, lines = cells(report)
    assert header == ["", "head", "s mae", "s corr", "p", "parameters", "train s", "runs"]
    assert lines == [
        ["1", "tfn", "0.900 ± 0.000 [0.800, 1.000]", "0.750 ± 0.050", "< 0.001 better", "12,345", "3.2", "2"],
        ["2", "late", "1.000 ± 0.012 [0.900, 1.100]", "0.650 ± 0.050", "reference", "12,345", "3.2", "2"],
        ["3", "svm", "1.100 [1.000, 1.200]", "0.500", "0.040 worse", "12,345", "3.2", "2"],
        ["4", "early", "1.200 [1.100, 1.300]", "–", "0.300", "12,345", "3.2", "2"],
    ]
    assert [line[3] for line in cells(report, brief=True)[1]] == ["0.750", "0.650", "0.500", "–"]
    many = replace(report, metrics=("s.mae", "s.corr") * 3)
    assert [len(cells(many, brief=brief)[0]) for brief in (False, True)] == [2 + 6 + 4, 2 + 3 + 2]


def test_markdown_says_what_the_table_was_made_of(report: Report) -> None:
    text = markdown(report)
    for told in (
        "`mmsa benchmark mine.yaml --jobs 2`",
        "made: 4 train, 2 valid, 6 test",
        "**Made up.**",
        "over seeds 1, 2",
        "31 clusters (dialogue)",
        "- text: text.made (none 1)",
        "corpus made, modalities audio, text",
        "Made on 2 cores, made up; one thread a run. torch 1/2.",
        "999 resamples of whole dialogues",
        "- A note.",
        "| tfn | 1.000 ± 0.250 | – |",
        "Nobody says who speaks.",
    ):
        assert told in text, told
    assert "extractors {" not in text
    assert len({line.count("|") for line in leaderboard(report).splitlines()}) == 1


def test_nothing_is_tested_without_a_reference(report: Report) -> None:
    plain = [replace(own, values={k: replace(v, test=None) for k, v in own.values.items()}) for own in report.rows]
    bare = replace(report, rows=tuple(replace(own, reference=None) for own in plain), reference=None)
    assert "p" not in cells(bare)[0]
    assert "permutation" not in markdown(bare)


def test_rows_with_references_of_their_own_name_them(report: Report) -> None:
    rows = [replace(own, reference="tfn") if own.name == "early" else own for own in report.rows]
    assert [line[4] for line in cells(replace(report, rows=tuple(rows)))[1]] == [
        "< 0.001 better than late",
        "reference",
        "0.040 worse than late",
        "0.300 against tfn",
    ]


def test_rows_with_the_same_settings_stand_together(report: Report) -> None:
    options = {"train.modalities": ["text"], "hidden_dim": 3}
    rows = [replace(own, options=options if own.name in ("tfn", "svm") else {}) for own in report.rows]
    text = markdown(replace(report, rows=tuple(rows)))
    assert "Settings of single rows:\n\n- hidden_dim 3, modalities text: tfn, svm\n" in text
    assert "Settings of single rows" not in markdown(report)


def test_files(report: Report, tmp_path: Path) -> None:
    folder = publish(report, tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "mine.md", "mine.csv", "mine.json", "mine_runs.csv", "mine_slices.csv",
    }  # fmt: skip
    with (folder / "mine.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == ["tfn", "late", "svm", "early"]
    assert (lines[0]["s.mae"], lines[0]["s.mae low"], lines[0]["s.mae p Holm"]) == ("0.9", "0.8", "0.0008")
    assert (lines[1]["s.mae p"], lines[2]["s.mae std"], lines[2]["seeds"]) == ("", "", "none")
    with (folder / "mine_slices.csv").open(encoding="utf-8", newline="") as file:
        assert [line["mean"] for line in csv.DictReader(file)] == ["1", ""]
    with (folder / "mine_runs.csv").open(encoding="utf-8", newline="") as file:
        runs = list(csv.DictReader(file))
    assert [(line["row"], line["seed"], line["s.mae"]) for line in runs[:3]] == [
        ("tfn", "1", "0.9"), ("late", "1", "1"), ("svm", "", "1.1"),
    ]  # fmt: skip


def test_json_is_strict(report: Report) -> None:
    text = json.dumps(as_json(report), allow_nan=False)  # raises on a NaN
    data = json.loads(text)
    assert data["rows"][2]["values"]["s.mae"]["std"] is None
    assert data["rows"][0]["values"]["s.mae"]["test"] == {
        "difference": -0.1, "p": 0.0004, "adjusted": 0.0008, "better": True,
    }  # fmt: skip
    assert data["corpora"] == [{"name": "made", "note": "Made up.", "counts": {"train": 4, "valid": 2, "test": 6}}]
    assert not math.isnan(data["rows"][0]["values"]["s.mae"]["interval"]["low"])
