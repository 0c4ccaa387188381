from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from mmsa.config import TrainConfig, make_config
from mmsa.errors import UsageError
from mmsa.many import run_many
from mmsa.recipe import Recipe, load_recipe, make_recipe
from mmsa.sweep import SweepResult, sweep, with_found
from mmsa.tracking import client
from mmsa.workshop import Workshop

TESTS = Path(__file__).parent
WORDS = ("WONDERFUL morning", "so it", "a LOVELY evening indeed", "no no")


@pytest.fixture
def table(workspace: Path, small: Any) -> Path:
    """A corpus of words that any process can read: long ones are glad."""
    return write_table(workspace / "words.csv")


def write_table(path: Path, test_labels: tuple[float, ...] = (1.0, -1.0)) -> Path:
    rows = []
    for split, count in (("train", 16), ("valid", 8), ("test", 6)):
        for i in range(count):
            label = test_labels[i % len(test_labels)] if split == "test" else (1.0, -1.0)[i % 2]
            rows.append([f"{split}{i}", split, WORDS[i % 4], label])
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "split", "transcript", "sentiment"], *rows])
    tasks = {"sentiment": {"kind": "regression", "low": -1, "high": 1}}
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"tasks": tasks}), encoding="utf-8")
    return path


def recipe(table: Path, **changes: Any) -> Recipe:
    data: dict[str, Any] = {
        "name": "words",
        "train": {
            "corpus": str(table),
            "extractors": {"text": {"name": "small_extractors:WordLengths"}},
            "epochs": 2,
            "device": "cpu",
            "jobs": 1,
        },
        "heads": [{"head": "late", "options": {"hidden_dim": 4}}],
        "search": {
            "parameters": {
                "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
                "head.hidden_dim": {"choices": [2, 4]},
            },
            "trials": 3,
            "metric": "sentiment.mae",
        },
    }
    return make_recipe({**data, **changes})


def told(result: SweepResult) -> list[tuple[Any, ...]]:
    return [(trial.number, dict(trial.settings), trial.value) for trial in result.trials]


def test_the_best_settings_are_found_written_and_usable(table: Path, workspace: Path) -> None:
    source = recipe(table, seeds=[5, 6])
    heard = []
    (found,) = sweep(source, on_trial=lambda plan, trial: heard.append((plan.row, trial.number)))
    assert heard == [("late", 0), ("late", 1), ("late", 2)]
    assert [trial.number for trial in found.trials] == [0, 1, 2]
    values = [trial.value for trial in found.trials if trial.value is not None]
    assert found.best.value == min(values)
    assert found.trials[0].settings == found.start == {"learning_rate": 1e-3, "head.hidden_dim": 4}
    assert found.first == found.trials[0].value
    config = make_config(found.config)
    assert config == TrainConfig.model_validate(
        {
            **source.config(source.heads[0]).model_dump(),
            "learning_rate": found.best.settings["learning_rate"],
            "head": {"hidden_dim": found.best.settings["head.hidden_dim"]},
        }
    )
    assert config.seed == 5
    tuned = load_recipe(found.recipe)
    assert tuned.config(tuned.heads[0]) == config
    assert tuned.seeds == (5, 6)
    assert found.config == Path("mlruns/sweeps/words/best_late.yaml")
    assert not list(found.config.parent.glob(".*"))


def test_mlflow_has_a_run_per_trial_and_no_test_metric(table: Path) -> None:
    (found,) = sweep(recipe(table))
    parent = client().get_run(found.parent)
    assert (parent.info.status, parent.data.tags["mmsa"]) == ("FINISHED", "sweep")
    assert parent.data.metrics["best/sentiment.mae"] == found.best.value
    assert parent.data.metrics["trials"] == 3
    runs = client().search_runs([parent.info.experiment_id], "tags.mmsa = 'trial'")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {found.parent}
    assert sorted(run.data.tags["mmsa.trial"] for run in runs) == ["0", "1", "2"]
    for run in [parent, *runs]:
        assert run.info.status == "FINISHED"
        assert not [key for key in run.data.metrics if "test" in key]
    for run in runs:
        trial = found.trials[int(run.data.tags["mmsa.trial"])]
        assert float(run.data.params["learning_rate"]) == trial.settings["learning_rate"]
        history = client().get_metric_history(run.info.run_id, "valid/sentiment.mae")
        assert trial.value in [metric.value for metric in history]
    names = {item.path for item in client().list_artifacts(found.parent)}
    assert names == {"best.yaml", "best_late.yaml"}


def test_the_test_split_is_never_opened_and_its_labels_change_nothing(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Workshop.split

    def guarded(self: Workshop, name: Any, *rest: Any, **named: Any) -> Any:
        assert name != "test", "the sweep asked for the test split"
        return real(self, name, *rest, **named)

    monkeypatch.setattr(Workshop, "split", guarded)
    (before,) = sweep(recipe(table))
    write_table(table, (-1.0, 1.0, 0.5))
    (after,) = sweep(recipe(table), storage="sqlite:///again.db")
    assert told(after) == told(before)
    assert after.study == before.study  # not even its name knows


def test_it_goes_on_to_the_number_asked_for(table: Path, small: Any) -> None:
    (first,) = sweep(recipe(table), trials=2)
    (second,) = sweep(recipe(table))
    assert len(second.trials) == 3
    assert told(second)[:2] == told(first)
    assert (second.study, second.parent) == (first.study, first.parent)
    (again,) = sweep(recipe(table), trials=3)
    assert told(again) == told(second)
    runs = client().search_runs([client().get_run(first.parent).info.experiment_id], "tags.mmsa = 'trial'")
    assert len(runs) == 3
    assert small.CALLS["text"] <= 30  # features were made once


@pytest.mark.parametrize("change", ["search", "words", "seed"])
def test_what_changes_the_trials_makes_another_study(table: Path, change: str) -> None:
    (before,) = sweep(recipe(table), trials=1)
    changed = recipe(table)
    if change == "search":
        changed = recipe(table, search={"parameters": {"learning_rate": {"low": 1e-3, "high": 1e-2}}})
    elif change == "words":
        text = table.read_text(encoding="utf-8").replace("train0,train,WONDERFUL morning,1.0", "train0,train,oh,1.0")
        table.write_text(
            text.replace("valid0,valid,WONDERFUL morning,1.0", "valid0,valid,WONDERFUL morning,0.5"), "utf-8"
        )
    (after,) = sweep(changed, trials=1, seed=1 if change == "seed" else 0)
    assert after.study != before.study
    assert len(after.trials) == 1


def test_each_head_is_tuned_by_itself_and_written_into_one_recipe(table: Path) -> None:
    heads = [{"head": "late", "name": "a row"}, "early", {"head": "svm"}]
    first, second = sweep(recipe(table, heads=heads), trials=1)
    assert (first.row, second.row) == ("a row", "early")
    assert first.study != second.study
    tuned = load_recipe(second.recipe)
    assert [entry.name for entry in tuned.heads] == ["a row", "early", "svm"]
    assert tuned.heads[0].options["hidden_dim"] == first.best.settings["head.hidden_dim"]
    assert tuned.heads[1].train["learning_rate"] == second.best.settings["learning_rate"]
    assert tuned.heads[2] == recipe(table, heads=heads).heads[2]
    assert first.config.name == "best_a_row.yaml"
    (only,) = sweep(recipe(table, heads=heads), rows=["early"], trials=1)
    assert only.row == "early"


def test_settings_go_where_a_recipe_has_them(table: Path) -> None:
    source = recipe(table, heads=[{"head": "late", "options": {"dropout": 0.5}, "train": {"epochs": 3}}, "early"])
    tuned = with_found(source, "late", {"head.hidden_dim": 8, "loss.regression": "mse", "epochs": 4})
    assert tuned.heads[0].options == {"dropout": 0.5, "hidden_dim": 8}
    assert tuned.heads[0].train == {"epochs": 4, "loss.regression": "mse"}
    assert tuned.heads[1] == source.heads[1]
    assert tuned.config(tuned.heads[0]).loss.regression == "mse"


def test_folds_are_a_reason_to_doubt(table: Path, workspace: Path) -> None:
    other = write_table(workspace / "other.csv")
    data = recipe(table).model_dump()
    data["train"].pop("corpus")
    (found,) = sweep(make_recipe({**data, "corpora": [str(table), str(other)]}), trials=1)
    assert found.corpus == str(table)
    assert "its validation clips are test clips there" in found.notes[-1]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"rows": ["lat"]}, "there is no row 'lat'. Did you mean 'late'"),
        ({"heads": ["late", "svm"]}, {"rows": ["svm"]}, "row 'svm' is fitted in one step"),
        ({"heads": ["svm"]}, {}, "no head with settings to search"),
        ({}, {"trials": 0}, "trials must be at least 1"),
        (
            {"search": {"parameters": {"head.hiden_dim": {"choices": [4]}}}},
            {},
            "no option of the head late, for search.parameters, 'hiden_dim'. Did you mean 'hidden_dim'",
        ),
        ({"search": {"parameters": {"lerning_rate": {"choices": [4]}}}}, {}, "Did you mean 'learning_rate'"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    table: Path, small: Any, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        sweep(recipe(table, **changes), **options)
    assert message in str(caught.value)
    assert not small.CALLS


def test_a_value_that_the_head_refuses_is_said_before_any_trial(table: Path) -> None:
    bad = {"parameters": {"head.hidden_dim": {"choices": [4, -1]}}}
    with pytest.raises(UsageError, match=r"search.parameters.head.hidden_dim: -1 cannot be built"):
        sweep(recipe(table, search=bad))
    with pytest.raises(UsageError, match=r"there is no measure to select on 'sentiment.mea'. Did you mean"):
        sweep(recipe(table, search={**recipe(table).model_dump()["search"], "metric": "sentiment.mea"}))


def test_when_nothing_can_be_trained_the_reasons_are_said(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UsageError("the training loss is not finite")

    monkeypatch.setattr("mmsa.training.fit", refuse)
    with pytest.raises(UsageError, match="no trial of late could be trained to its end: the training loss is not"):
        sweep(recipe(table), trials=2)
    experiments = [experiment.experiment_id for experiment in client().search_experiments()]
    (parent,) = client().search_runs(experiments, "tags.mmsa = 'sweep'")
    assert parent.info.status == "FAILED"


def sweep_words(job: tuple[str, str, int]) -> list[int]:
    """In a process of its own, on one storage."""
    folder, table, trials = job
    os.chdir(folder)
    (found,) = sweep(recipe(Path(table)), trials=trials, storage=f"sqlite:///{folder}/shared.db")
    return [trial.number for trial in found.trials]


@pytest.mark.slow
def test_several_processes_share_a_study(table: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--jobs 2`, and then the same command started twice at once: exactly as many trials, none the same."""
    monkeypatch.syspath_prepend(TESTS)
    url = f"sqlite:///{workspace}/shared.db"
    (found,) = sweep(recipe(table), trials=4, jobs=2, storage=url)
    assert len(found.trials) == 4
    import test_sweep

    jobs = [(str(workspace), str(table), 8)] * 2
    results = [result for _, result in run_many(test_sweep.sweep_words, jobs, processes=2)]
    assert [len(result) for result in results if isinstance(result, list)] == [8, 8], results
    (name,) = optuna.get_all_study_names(url)
    trials = optuna.load_study(study_name=name, storage=url).trials
    finished = [trial for trial in trials if trial.state.is_finished() and trial.state.name != "FAIL"]
    assert len(finished) == 8
    assert len({str(trial.params) for trial in finished}) == 8
    runs = client().search_runs([client().get_run(found.parent).info.experiment_id], "tags.mmsa = 'trial'")
    assert len(runs) == 8


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(table: Path, workspace: Path) -> None:
    """kill -9 in the middle of a trial, and the same command again."""
    file = workspace / "words.recipe.yaml"
    source = recipe(table)
    data = yaml.safe_load(source.to_yaml())
    data["train"]["epochs"] = 400
    data["train"]["patience_epochs"] = 400
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "mmsa", "sweep", str(file), "--trials", "3"]
    process = subprocess.Popen(command, cwd=workspace, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "trial 0" in line:
            break
    store = workspace / "mlruns" / "sweeps.db"
    url, deadline = f"sqlite:///{store}", time.monotonic() + 60
    (name,) = optuna.get_all_study_names(url)
    while time.monotonic() < deadline:
        trials = optuna.load_study(study_name=name, storage=url).trials
        if len(trials) == 2 and "mlflow_run" in trials[1].user_attrs and trials[1].intermediate_values:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    lost = optuna.load_study(study_name=name, storage=url).trials[1]
    assert lost.state.name == "RUNNING"
    found, *_ = sweep(load_recipe(file), trials=3)
    trials = optuna.load_study(study_name=name, storage=url).trials
    assert [trial.state.name for trial in trials].count("FAIL") == 1
    assert trials[1].state.name == "FAIL"
    assert trials[2].params == lost.params
    assert [trial.number for trial in found.trials] == [0, 2, 3]
    assert client().get_run(lost.user_attrs["mlflow_run"]).info.status == "KILLED"
    assert client().get_run(found.parent).info.status == "FINISHED"
