from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mmsa.metrics import compute_metrics
from mmsa.robustness.curves import MISSING, Curve, Point
from mmsa.robustness.noise import NOISES
from mmsa.robustness.report import draw_curve, headline_keys, markdown, write_metrics, write_predictions
from mmsa.tasks import Classification, MultiLabel, Regression, Task

SUBSETS = {
    "audio": {"s.mae": 0.9, "s.corr": 0.1, "s.acc_7": 0.2},
    "audio+text": {"s.mae": 0.5, "s.corr": 0.75, "s.acc_7": 0.4},
}
NOISY = Curve(
    NOISES["audio"],
    (
        Point(None, {"s.mae": 0.5, "s.corr": 0.75}, alone={"s.mae": 0.9, "s.corr": 0.1}, without=("a",)),
        Point(20.0, {"s.mae": 0.6, "s.corr": 0.5}, alone={"s.mae": 1.0, "s.corr": 0.0}, without=("a", "b")),
    ),
    {"s.mae": 0.55, "s.corr": 0.625},
    ("a",),
)
THINNED = Curve(
    MISSING,
    (
        Point(None, {"s.mae": 0.5, "s.corr": 0.75}),
        Point(0.5, {"s.mae": 0.625, "s.corr": 0.25}, {"s.mae": 0.125, "s.corr": 0.0}, realised=0.375),
    ),
)


def rows_of(page: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]


def test_the_page_says_every_shown_number() -> None:
    page = markdown("late on mosi", SUBSETS, [THINNED, NOISY], ["Made up.", "Twice."])
    assert page.startswith("# late on mosi\n\n- Made up.\n- Twice.\n\n| modalities |")
    rows = rows_of(page)
    assert ["modalities", "s.mae", "s.corr"] in rows  # acc_7 stands in the tables only
    assert ["audio+text", "0.500", "0.750"] in rows
    assert ["0.5", "0.375", "0.625 ± 0.125", "0.250 ± 0.000"] in rows
    assert ["level", "s.mae", "s.corr", "audio alone: s.mae", "audio alone: s.corr"] in rows
    assert ["20", "0.600", "0.500", "1.000", "0.000"] in rows
    assert ["without audio", "0.550", "0.625", "", ""] in rows
    assert "1 clip (a) never had audio and stay as they are." in page
    assert "At 20, 1 clip (b) lost audio altogether." in page
    assert "![audio](curve_audio.png)" in page
    for row, following in pairwise(rows):
        assert len(row) == len(following) or "---" not in row


def test_the_long_table_holds_every_number(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_metrics(path, SUBSETS, [THINNED, NOISY])
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(r["condition"], r["level"], r["input"], r["metric"]): (r["value"], r["spread"]) for r in rows}
    assert len(found) == len(rows) == 6 + 4 + 8 + 2
    assert found["subset", "", "audio+text", "s.acc_7"] == ("0.4", "")
    assert found["missing", "0.5", "all", "s.mae"] == ("0.625", "0.125")
    assert found["audio", "20.0", "all", "s.mae"] == ("0.6", "")
    assert found["audio", "20.0", "audio", "s.corr"] == ("0.0", "")
    assert found["audio", "", "without audio", "s.mae"] == ("0.55", "")


def test_metrics_can_be_computed_again_from_predictions(tmp_path: Path) -> None:
    tasks: tuple[Task, ...] = (
        Regression("s", -1, 1),
        Classification("e", ("x", "y")),
        MultiLabel("m", ("u", "v", "w")),
    )
    generator = np.random.default_rng(0)
    clips = [f"c,{i}" for i in range(20)]
    outputs = {task.name: generator.normal(size=(20, task.output_dim)).astype(np.float32) for task in tasks}
    labels = {
        "s": generator.uniform(-1, 1, 20).astype(np.float32),
        "e": generator.integers(0, 2, 20).astype(np.float32),
        "m": generator.integers(0, 2, (20, 3)).astype(np.float32),
    }
    labels["s"][3], labels["m"][4] = np.nan, np.nan
    path = tmp_path / "deep" / "predictions.csv"
    write_predictions(path, clips, tasks, labels, outputs)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"] for row in rows] == clips
    for task in tasks:
        names = ("prediction",) if isinstance(task, Regression) else task.classes
        again = np.array([[float(row[f"{task.name}.{name}"]) for name in names] for row in rows], np.float32)
        truth = np.array([json.loads(row[f"{task.name}.label"]) for row in rows], np.float32)
        np.testing.assert_array_equal(again, outputs[task.name])
        assert compute_metrics(task, again, truth) == compute_metrics(task, outputs[task.name], labels[task.name])


def test_the_headline_is_one_or_two_metrics_a_task() -> None:
    keys = ["s.mae", "s.corr", "s.acc_7", "e.accuracy", "e.weighted_f1", "e.f1_joy", "m.wa", "m.wa_joy"]
    assert headline_keys(keys) == ["s.mae", "s.corr", "e.weighted_f1", "m.wa"]


@pytest.mark.parametrize("curve", [NOISY, THINNED], ids=["noise", "missing"])
def test_the_picture_draws_the_numbers(curve: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was handed to the drawing library, panel by panel."""
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    real = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), real(self, *a, **k))[1])
    draw_curve(tmp_path / "curve.png", curve)
    assert (tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (figure,) = figures
    assert [axes.get_title() for axes in figure.axes] == ["s.mae (less is better)", "s.corr (more is better)"]
    for axes, key in zip(figure.axes, ("s.mae", "s.corr"), strict=True):
        lines = {line.get_label(): list(np.asarray(line.get_ydata())) for line in axes.get_lines()}
        assert lines["all modalities"] == [point.metrics[key] for point in curve.points]
        assert next(tick.get_text() for tick in axes.get_xticklabels()) == "untouched"
        if curve is NOISY:
            assert lines["audio alone"] == [point.alone[key] for point in curve.points]
            assert lines["without audio"] == [curve.floor[key]] * 2
