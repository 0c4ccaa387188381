from __future__ import annotations

import inspect
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState

import mmsa.tuning
from mmsa.config import TrainConfig
from mmsa.errors import UsageError
from mmsa.recipe import Search
from mmsa.runs import Workshop, open_workshop
from mmsa.training import Epoch
from mmsa.tuning import (
    AGAIN,
    REASON,
    WORKER,
    SurplusError,
    fail_dead_trials,
    is_dead,
    measured,
    numbered_sampler,
    study_direction,
    suggest,
    tune,
    worker_name,
)

optuna.logging.set_verbosity(optuna.logging.ERROR)
SEARCH = Search.model_validate(
    {
        "parameters": {
            "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
            "head.hidden_dim": {"choices": [2, 4]},
            "batch_size": {"low": 4, "high": 16, "kind": "int"},
        }
    }
)


class Notes:
    """Stands in for MLflow: keeps what each trial logs."""

    def __init__(self) -> None:
        self.settings: dict[int, dict[str, Any]] = {}
        self.logged: dict[int, dict[int, dict[str, float]]] = {}
        self.tagged: dict[int, dict[str, str]] = {}

    @contextmanager
    def open_trial(self, number: int, settings: Mapping[str, Any]) -> Iterator[Any]:
        self.settings[number], self.logged[number], self.tagged[number] = dict(settings), {}, {}
        notes = self

        class Tracker:
            run_id = f"run-{number}"

            def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
                notes.logged[number].setdefault(step, {}).update(values)

            def tags(self, values: Mapping[str, str]) -> None:
                notes.tagged[number].update(values)

        yield Tracker()


@pytest.fixture
def shop(untrained: TrainConfig) -> Workshop:
    return open_workshop(untrained)


WILD = Search.model_validate({"parameters": {"learning_rate": {"low": 0.3, "high": 1.0}}})
"""Steps so long that a later epoch is often worse than an earlier one."""


def run(
    shop: Workshop, config: TrainConfig, study: optuna.Study, trials: int, search: Search = SEARCH, epochs: int = 3
) -> Notes:
    notes = Notes()
    tune(
        config.model_copy(update={"epochs": epochs}),
        shop.split("train"),
        shop.split("valid"),
        shop.tasks,
        search,
        study=study,
        trials=trials,
        seed=7,
        device=torch.device("cpu"),
        open_trial=notes.open_trial,
    )
    return notes


def outcome(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.value, t.params, t.intermediate_values) for t in study.trials]


def test_the_tuner_has_no_way_to_the_test_split() -> None:
    """By signature: two splits, for learning and for judging, and nothing that could open another."""
    parameters = inspect.signature(tune, eval_str=False).parameters
    assert [name for name, p in parameters.items() if "SplitData" in str(p.annotation)] == ["train", "valid"]
    assert not {"Workshop", "Corpus"} & {str(p.annotation) for p in parameters.values()}
    assert "test" not in parameters
    assert not {"Workshop", "open_workshop", "load_corpus", "Corpus"} & set(vars(mmsa.tuning))


def test_nothing_about_the_test_split_changes_a_trial(shop: Workshop, untrained: TrainConfig) -> None:
    """Its labels turned round and its features replaced by ones that no training survives: the same study."""
    own = optuna.create_study()
    run(shop, untrained, own, 3)
    corpus = replace(
        shop.corpus,
        clips=tuple(
            replace(clip, labels={"sentiment": -1.0, "emotion": "low"}) if clip.split == "test" else clip
            for clip in shop.corpus.clips
        ),
    )
    tables = {}
    for key, table in shop.tables.items():
        values = table.values.copy()
        for row, clip in enumerate(corpus.clips):
            if clip.split == "test":
                values[table.offsets[row] : table.offsets[row + 1]] = math.nan
        tables[key] = replace(table, values=values)
    poisoned = optuna.create_study()
    run(Workshop(corpus, shop.tasks, shop.extractors, tables, tables), untrained, poisoned, 3)
    assert outcome(poisoned) == outcome(own)


def test_a_trial_counts_as_its_best_epoch_on_the_validation_split(shop: Workshop, untrained: TrainConfig) -> None:
    study = optuna.create_study()
    notes = run(shop, untrained, study, 3, WILD, 5)
    earlier = 0
    for trial in study.trials:
        epochs = {step: found for step, found in notes.logged[trial.number].items() if "valid/loss" in found}
        assert sorted(epochs) == [1, 2, 3, 4, 5]
        losses = {step: found["valid/loss"] for step, found in epochs.items()}
        assert trial.intermediate_values == losses
        assert trial.value == min(losses.values())
        earlier += trial.value < losses[5]
        keys = {key for found in notes.logged[trial.number].values() for key in found}
        assert not [key for key in keys if "test" in key]
        assert trial.params == notes.settings[trial.number]
        assert trial.user_attrs["mlflow_run"] == f"run-{trial.number}"
    assert earlier  # in at least one, the last epoch was not the best


def test_another_measure_is_taken_in_the_epoch_that_is_kept(shop: Workshop, untrained: TrainConfig) -> None:
    """The epoch is chosen as in a training, by the loss; what counts of it is the measure."""
    search = SEARCH.model_copy(update={"metric": "sentiment.corr"})
    assert study_direction(search) == "maximize"
    study = optuna.create_study(direction="maximize")
    notes = run(shop, untrained, study, 1, search)
    epochs = [notes.logged[0][number] for number in (1, 2, 3)]
    kept = min(epochs, key=lambda found: found["valid/loss"])
    assert study.trials[0].value == kept["valid/sentiment.corr"]
    with pytest.raises(UsageError, match=r"there is no measure to select on 'sentiment.acc_7'"):
        run(shop, untrained, study, 2, SEARCH.model_copy(update={"metric": "sentiment.acc_7"}))


def test_a_study_that_is_gone_on_with_is_the_one_that_was_never_stopped(shop: Workshop, untrained: TrainConfig) -> None:
    """Past the trials at random, so that what is tried depends on what was found before."""
    whole, parts = optuna.create_study(), optuna.create_study()
    original, mmsa.tuning.STARTUP_TRIALS = mmsa.tuning.STARTUP_TRIALS, 2
    try:
        run(shop, untrained, whole, 6)
        for trials in (1, 4, 6):
            run(shop, untrained, parts, trials)
    finally:
        mmsa.tuning.STARTUP_TRIALS = original
    assert outcome(parts) == outcome(whole)
    assert len({str(trial.params) for trial in whole.trials}) == 6
    run(shop, untrained, parts, 3)
    assert len(parts.trials) == 6  # there are enough already


def test_draws_follow_from_the_number_and_not_from_the_process() -> None:
    """Two workers of one seed that take turns try what one would; another seed tries other settings."""

    def draws(samplers: list[Any], seed: int) -> list[Any]:
        study = optuna.create_study()
        found = []
        for i in range(6):
            study.sampler = samplers[i % len(samplers)](seed)
            trial = study.ask()
            found.append(suggest(trial, SEARCH))
            study.tell(trial, float(i))
        return found

    alone = draws([numbered_sampler], 1)
    assert draws([numbered_sampler, numbered_sampler], 1) == alone
    assert draws([numbered_sampler], 2) != alone


def dead_worker() -> str:
    """The name of a worker whose process is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{worker_name().rpartition('/')[0]}/{process.pid}"


def running(study: optuna.Study, worker: str, **attributes: Any) -> optuna.Trial:
    trial = study.ask()
    trial.set_user_attr(WORKER, worker)
    for key, value in attributes.items():
        trial.set_user_attr(key, value)
    suggest(trial, SEARCH)
    return trial


def test_the_trial_of_a_killed_worker_is_failed_and_tried_again(shop: Workshop, untrained: TrainConfig) -> None:
    study = optuna.create_study()
    lost = running(study, dead_worker())
    run(shop, untrained, study, 2)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert study.trials[1].params == lost.params
    assert study.trials[1].user_attrs[AGAIN] == 0


def test_settings_that_killed_two_workers_are_let_be() -> None:
    study = optuna.create_study()
    running(study, dead_worker(), **{AGAIN: 5})
    fail_dead_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def test_living_workers_and_those_elsewhere_are_left_alone() -> None:
    study = optuna.create_study()
    running(study, worker_name())
    running(study, "another-machine/pid:[1]/1")
    running(study, "")
    fail_dead_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING] * 3
    assert not is_dead(None)


def test_a_process_that_nobody_waited_for_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # it is over, or about to be
    name = f"{worker_name().rpartition('/')[0]}/{process.pid}"
    for _ in range(1000):
        if is_dead(name):
            break
        subprocess.run(["sleep", "0.01"], check=True)
    assert is_dead(name)
    process.wait()


def test_a_trial_begun_after_the_last_one_is_given_up(shop: Workshop, untrained: TrainConfig) -> None:
    """As when two workers begin one each while one is missing."""
    study = optuna.create_study()
    notes = Notes()
    own = mmsa.tuning._Objective(
        untrained,
        shop.split("train"),
        shop.split("valid"),
        shop.tasks,
        SEARCH,
        1,
        torch.device("cpu"),
        notes.open_trial,
    )
    study.ask()
    study.optimize(own, n_trials=1, catch=(SurplusError,))
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING, TrialState.FAIL]
    assert notes.settings == {}  # it left no MLflow run


def test_a_hopeless_trial_is_stopped(shop: Workshop, untrained: TrainConfig) -> None:
    class Strict(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return trial.last_step == 2

    study = optuna.create_study(pruner=Strict())
    notes = run(shop, untrained, study, 1)
    assert study.trials[0].state == TrialState.PRUNED
    assert sorted(notes.logged[0]) == [1, 2]
    assert notes.tagged[0] == {"mmsa.pruned": "after epoch 2"}


def test_settings_that_cannot_be_trained_end_the_trial_and_not_the_sweep(
    shop: Workshop, untrained: TrainConfig
) -> None:
    search = Search.model_validate({"parameters": {"head.hidden_dim": {"choices": [-1]}}})
    study = optuna.create_study()
    notes = run(shop, untrained, study, 2, search)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2
    assert study.trials[0].user_attrs[REASON] == notes.tagged[0]["mmsa.pruned"] != ""


def test_an_interruption_puts_the_settings_up_again(shop: Workshop, untrained: TrainConfig) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    study = optuna.create_study()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmsa.training.fit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(shop, untrained, study, 1)
    run(shop, untrained, study, 1)
    first, second = study.trials
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert first.params == second.params


def test_a_measure_that_is_not_defined_is_an_error() -> None:
    epoch = Epoch(1, 0.5, 0.25, {"sentiment.mae": 0.75}, {})
    assert (measured(epoch, "loss"), measured(epoch, "sentiment.mae")) == (0.25, 0.75)
    with pytest.raises(UsageError, match=r"sentiment.corr is not defined on the validation split"):
        measured(epoch, "sentiment.corr")
