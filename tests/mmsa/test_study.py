from __future__ import annotations

import builtins
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from mmsa.config import TrainConfig
from mmsa.errors import UsageError
from mmsa.recipe import Search
from mmsa.study import (
    Plan,
    Trial,
    best_of,
    end_lost_runs,
    finished_trials,
    load_study,
    open_study,
    open_trial,
    own_storage,
    require_optuna,
    sweep_run,
)
from mmsa.tracking import client

SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2}, "loss.class_weights": {"choices": ["none", {"a": {}}]}}
SEARCH = Search.model_validate({"parameters": SPACE})
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used with Study.optimize")


@pytest.fixture
def plan(workspace: Path) -> Plan:
    """A plan in a working directory of its own."""
    require_optuna()
    return Plan("late", TrainConfig(), SEARCH, 3, 0, own_storage(), "recipe/late/00000000", experiment="mmsa-demo")


def test_a_study_and_its_run_are_made_once(plan: Plan, workspace: Path) -> None:
    assert (workspace / "mlruns") == Path(plan.storage.removeprefix("sqlite:///")).parent
    study, first = open_study(plan, "recipe")
    _, again = open_study(plan, "recipe")
    assert first.parent == again.parent
    run = client().get_run(first.parent)
    assert (run.info.run_name, run.data.tags["mmsa"], run.data.tags["mmsa.study"]) == (
        "sweep-late",
        "sweep",
        plan.study,
    )
    assert run.data.params["search.learning_rate"] == '{"low": 0.0001, "high": 0.01}'
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]
    assert study.ask().suggest_float("learning_rate", 1e-4, 1e-2) == TrainConfig().learning_rate
    other, _ = open_study(replace(plan, study="recipe/late/11111111"), "recipe")
    assert other.study_name != study.study_name


def test_another_mlflow_store_gets_a_run_of_its_own(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = open_study(plan, "recipe")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    _, second = open_study(plan, "recipe")
    assert second.parent != first.parent
    assert client().get_run(second.parent).info.status == "FINISHED"


def test_the_run_of_a_sweep_runs_again_while_it_is_gone_on_with(plan: Plan) -> None:
    _, plan = open_study(plan, "recipe")
    with sweep_run(plan.parent) as tracker:
        assert client().get_run(plan.parent).info.status == "RUNNING"
        tracker.metrics({"trials": 3})
    assert client().get_run(plan.parent).info.status == "FINISHED"
    with pytest.raises(KeyboardInterrupt), sweep_run(plan.parent):
        raise KeyboardInterrupt
    assert client().get_run(plan.parent).info.status == "KILLED"


def test_two_workers_never_take_the_same_trial(plan: Plan, workspace: Path) -> None:
    """Without a lock, about every third waiting trial is taken by both of two workers that ask at once."""
    study, plan = open_study(replace(plan, storage=f"sqlite:///{workspace}/taken.db"), "")
    workers = [load_study(plan) for _ in range(2)]
    for number in range(15):
        study.enqueue_trial({"learning_rate": 10.0 ** -(2 + number % 3)})
        gate, taken = threading.Barrier(2), list[int]()

        def ask(worker: optuna.Study, gate: threading.Barrier = gate, taken: list[int] = taken) -> None:
            gate.wait()
            taken.append(worker.ask().number)

        threads = [threading.Thread(target=ask, args=(worker,)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == len(set(taken)) == 2


def test_trials_are_nested_and_lost_ones_end(plan: Plan) -> None:
    study, plan = open_study(plan, "recipe")
    with open_trial(plan, 0, {"learning_rate": 0.5}) as tracker:
        pass
    run = client().get_run(tracker.run_id)
    assert run.data.tags["mlflow.parentRunId"] == plan.parent
    assert run.data.tags["mmsa"] == "trial"
    assert run.data.params == {"learning_rate": "0.5", "fusion": "late", "seed": "1"}
    store = client()
    lost = store.create_run(run.info.experiment_id).info.run_id
    for run_id in (lost, tracker.run_id):
        trial = study.ask()
        trial.set_user_attr("mlflow_run", run_id)
        study.tell(trial, state=TrialState.FAIL)
    end_lost_runs(study)
    assert store.get_run(lost).info.status == "KILLED"
    assert store.get_run(tracker.run_id).info.status == "FINISHED"


def test_finished_trials_come_with_their_settings(plan: Plan) -> None:
    study, _ = open_study(plan, "recipe")
    values = {"complete": 0.5, "stopped": None, "broken": None, "running": None}
    for name in values:
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-2)
        trial.suggest_categorical("loss.class_weights", ["none", '{"a": {}}'])
        if name == "complete":
            study.tell(trial, 0.5)
        elif name == "stopped":
            trial.set_user_attr("reason", "too deep")
            study.tell(trial, state=TrialState.PRUNED)
        elif name == "broken":
            study.tell(trial, state=TrialState.FAIL)
    first, second = finished_trials(study, SEARCH)
    assert (first.number, first.value, first.reason) == (0, 0.5, None)
    assert first.settings["learning_rate"] == TrainConfig().learning_rate
    assert first.settings["loss.class_weights"] in ("none", {"a": {}})
    assert (second.number, second.value, second.reason) == (1, None, "too deep")
    assert len(load_study(plan).trials) == 4


@pytest.mark.parametrize(("direction", "best"), [("minimize", 2), ("maximize", 1)])
def test_the_best_is_the_earliest_of_equals(direction: str, best: int) -> None:
    values: list[float | None] = [None, 3.0, 1.0, 1.0, 3.0]
    trials = [Trial(i, {}, value) for i, value in enumerate(values)]
    found = best_of(optuna.create_study(direction=direction), trials)
    assert found is not None
    assert found.number == best
    assert best_of(optuna.create_study(direction=direction), trials[:1]) is None


@pytest.mark.parametrize("url", ["no url", "postgresql+nodriver://x/y", "sqlite:////no/such/folder/x.db"])
def test_a_storage_that_cannot_be_opened(plan: Plan, url: str) -> None:
    with pytest.raises(UsageError, match=r"the storage .* cannot be opened: .*It is a database URL"):
        open_study(replace(plan, storage=url), "recipe")


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def none(name: str, *rest: Any, **named: Any) -> Any:
        if name == "optuna":
            raise ImportError("no module named optuna")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(UsageError, match=r"pip install 'mmsa-framework\[sweep\]'"):
        require_optuna()
