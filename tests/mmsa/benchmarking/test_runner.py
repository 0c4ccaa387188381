"""The whole way, on a made corpus: train, keep, continue, report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmsa
from mmsa.benchmarking.runner import Outcome, report_only
from mmsa.benchmarking.store import SplitPredictions
from mmsa.errors import UsageError
from mmsa.metrics import compute_metrics
from mmsa.recipe import Recipe
from mmsa.tracking import client

MakeRecipe = Callable[..., Recipe]


def run_folders(out: Path) -> dict[str, float]:
    """When each kept training was written."""
    return {str(p.parent.relative_to(out)): p.stat().st_mtime_ns for p in sorted(out.glob("runs/*/*/result.json"))}


def means(outcome: Outcome) -> dict[str, float]:
    return {f"{row.name}/{m}": v.mean for row in outcome.report.rows for m, v in row.values.items()}


def test_a_benchmark_from_start_to_end(workspace: Path, recipe_on: MakeRecipe, table: Path) -> None:
    recipe = recipe_on(slices=["speaker", "class", "length", "missing", "congruent"])
    seen: list[tuple[str, int, int]] = []
    outcome = mmsa.benchmark(recipe, jobs=1, on_run=lambda item, _, n, of: seen.append((repr(item), n, of)))
    assert [(n, of) for _, n, of in seen] == [(1, 3), (2, 3), (3, 3)]  # two seeds of late, and svm once
    assert (outcome.trained, outcome.kept, outcome.failed) == (3, 0, {})
    out = Path("benchmarks-out/mine")
    check_tables(out)
    check_predictions(out, outcome)
    check_tracking(out, outcome)

    # Nothing is repeated; the same parent run is used again.
    before = run_folders(out)
    again = mmsa.benchmark(recipe, jobs=1)
    assert (again.trained, again.kept) == (0, 3)
    assert run_folders(out) == before
    assert means(again) == means(outcome)
    assert len(client().search_runs(parent_experiments(), "tags.mmsa = 'benchmark'")) == 1

    # Another option of one row trains that row alone, and the old one is still known afterwards.
    other = recipe_on(heads=[{"head": "late", "options": {"hidden_dim": 5}}, "svm"])
    assert (mmsa.benchmark(other, jobs=1).trained, mmsa.benchmark(recipe, jobs=1).trained) == (2, 0)

    # The report needs neither the corpus nor its features.
    shutil.rmtree(table.parent)
    shutil.rmtree(workspace.parent / "cache")
    markdown = (out / "tables" / "mine.md").read_text(encoding="utf-8")
    reported = report_only(recipe)
    assert means(reported) == means(outcome)
    assert (out / "tables" / "mine.md").read_text(encoding="utf-8") == markdown


def parent_experiments() -> list[str]:
    return [experiment.experiment_id for experiment in client().search_experiments()]


def check_tables(out: Path) -> None:
    names = {path.name for path in (out / "tables").iterdir()}
    assert names == {"mine.md", "mine.csv", "mine.json", "mine_runs.csv", "mine_slices.csv"}
    assert json.loads((out / "tables" / "mine.json").read_text(encoding="utf-8"))["reference"] == "late"


def check_predictions(out: Path, outcome: Outcome) -> None:
    """Both splits are kept, and any metric can be computed from them."""
    (late,) = (row for row in outcome.report.rows if row.name == "late")
    found = []
    for folder in sorted(out.glob("runs/late/*")):
        test, valid = (SplitPredictions.load(folder / f"{split}.npz") for split in ("test", "valid"))
        assert len(test.clips) == 10
        assert len(valid.clips) == 8
        assert set(test.subsets) == {"eeg", "text"}
        task = next(t for t in outcome.report.results[0].read_tasks() if t.name == "sentiment")
        found.append(compute_metrics(task, test.outputs["sentiment"], test.labels["sentiment"])["mae"])
    assert sorted(late.values["sentiment.mae"].runs) == pytest.approx(sorted(found))
    assert late.values["sentiment.mae"].mean == pytest.approx(np.mean(found))
    assert late.values["sentiment.mae"].std == pytest.approx(np.std(found, ddof=1))


def check_tracking(out: Path, outcome: Outcome) -> None:
    """One parent with the tables, and the trainings nested in it with the same test metrics."""
    store = client()
    parent = json.loads((out / "mlflow.json").read_text(encoding="utf-8"))["run"]
    nested = store.search_runs(parent_experiments(), f"tags.mlflow.parentRunId = '{parent}'")
    assert {run.info.run_id for run in nested} == {run for row in outcome.report.rows for run in row.runs}
    assert all(run.info.status == "FINISHED" for run in [*nested, store.get_run(parent)])
    assert {item.path for item in store.list_artifacts(parent, "tables")} >= {"tables/mine.md", "tables/mine.csv"}
    own = store.get_run(parent).data.metrics
    (late,) = (row for row in outcome.report.rows if row.name == "late")
    assert own["late/sentiment.mae"] == pytest.approx(late.values["sentiment.mae"].mean)
    by_id = {run.info.run_id: run.data.metrics["test/sentiment.mae"] for run in nested}
    assert [by_id[run] for run in late.runs] == pytest.approx(late.values["sentiment.mae"].runs, abs=1e-6)


def test_an_interrupted_benchmark_goes_on(workspace: Path, recipe_on: MakeRecipe) -> None:
    recipe = recipe_on(heads=[{"head": "late", "options": {"hidden_dim": 4}}, "early"])

    def interrupt(item: Any, result: Any, number: int, total: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    out = workspace / "out"
    with pytest.raises(KeyboardInterrupt):
        mmsa.benchmark(recipe, output=out, jobs=1, on_run=interrupt)
    parent = json.loads((out / "mlflow.json").read_text(encoding="utf-8"))["run"]
    assert client().get_run(parent).info.status == "KILLED"
    before = run_folders(out)
    assert len(before) == 2
    outcome = mmsa.benchmark(recipe, output=out, jobs=1)
    assert (outcome.trained, outcome.kept) == (2, 2)
    assert before.items() <= run_folders(out).items()
    assert client().get_run(parent).info.status == "FINISHED"
    assert json.loads((out / "mlflow.json").read_text(encoding="utf-8"))["run"] == parent


def test_one_that_fails_stops_no_other(workspace: Path, recipe_on: MakeRecipe) -> None:
    bad = {"head": "early", "name": "diverges", "train": {"learning_rate": 1e30, "clip_norm": 1e30}}
    outcome = mmsa.benchmark(recipe_on(heads=[bad, "svm"], reference="svm"), jobs=1)
    assert outcome.trained == 1
    assert len(outcome.failed) == 2
    assert all("UsageError: " in reason for reason in outcome.failed.values())
    assert [row.name for row in outcome.report.rows] == ["svm"]
    assert "diverges: no run is there." in outcome.report.notes
    assert any(note.startswith("Failed: diverges on ") for note in outcome.report.notes)


def test_nothing_at_all_is_an_error(workspace: Path, recipe_on: MakeRecipe) -> None:
    bad = {"head": "early", "train": {"learning_rate": 1e30, "clip_norm": 1e30}}
    with pytest.raises(UsageError, match=r"no training succeeded:\n  early on .*seed 1: UsageError"):
        mmsa.benchmark(recipe_on(heads=[bad], seeds=[1], reference=None), jobs=1)
    with pytest.raises(UsageError, match="holds no predictions of this recipe: run it without --report-only first"):
        report_only(recipe_on(), output="elsewhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": ["lat"], "reference": None}, r"row 'lat': .*late"),
        ({"heads": [{"head": "late", "options": {"hiden_dim": 3}}]}, r"row 'late': .*takes no hiden_dim"),
        (
            {"heads": [{"head": "svm", "options": {"kernel": "rbf"}}], "reference": None},
            r"takes no kernel; its options",
        ),
        ({"train": {"tasks": ["sentimnt"]}}, r"row 'late': .*Did you mean 'sentiment'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_trained(
    workspace: Path, recipe_on: MakeRecipe, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        mmsa.benchmark(recipe_on(**changes), jobs=1)
    assert not list(workspace.glob("**/result.json"))


@pytest.mark.slow
def test_processes_give_the_same_predictions(workspace: Path, recipe_on: MakeRecipe) -> None:
    recipe = recipe_on(heads=[{"head": "late", "options": {"hidden_dim": 4}}], reference=None)
    one = mmsa.benchmark(recipe, output=workspace / "one", jobs=1)
    two = mmsa.benchmark(recipe, output=workspace / "two", jobs=2)
    assert (one.trained, two.trained) == (2, 2)
    for folder in (workspace / "one" / "runs").glob("*/*"):
        other = workspace / "two" / folder.relative_to(workspace / "one")
        for split in ("valid", "test"):
            a, b = (SplitPredictions.load(each / f"{split}.npz") for each in (folder, other))
            assert a.clips == b.clips
            assert all(np.array_equal(a.outputs[task], b.outputs[task]) for task in a.outputs)
