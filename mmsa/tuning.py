"""`tune`: trials of one study, judged on the validation split. The test split is no argument of anything here."""

from __future__ import annotations

import hashlib
import os
import socket
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.config import TrainConfig
from mmsa.data import SplitData
from mmsa.errors import UsageError
from mmsa.metrics import direction
from mmsa.recipe import Search
from mmsa.search import decode_choice, encode_choice, ends, with_settings
from mmsa.selection import LOSS, Selection
from mmsa.tasks import Task
from mmsa.workshop import sized_config

if TYPE_CHECKING:
    import optuna
    import torch

    from mmsa.tracking import Tracker
    from mmsa.training import Epoch

WORKER, AGAIN, REASON, RUN = "worker", "again", "reason", "mlflow_run"
"""Attributes of a trial: who tries it, whether it replaces a lost one, why it failed, and its MLflow run."""

STARTUP_TRIALS = 10
"""Settings drawn at random before the model of good settings is asked."""

PRUNING_STARTS_TRIALS, PRUNING_STARTS_EPOCHS = 5, 5
POLL_SECONDS = 1.0

OpenTrial = Callable[[int, Mapping[str, Any]], "AbstractContextManager[Tracker]"]


def tune(
    config: TrainConfig,
    train: SplitData,
    valid: SplitData,
    tasks: Sequence[Task],
    search: Search,
    *,
    study: optuna.Study,
    trials: int,
    seed: int,
    device: torch.device,
    open_trial: OpenTrial,
) -> None:
    """Add trials to a study until it has the number asked for; several processes may do so at once.

    Each trial trains with the configuration's seed and counts as its measure in the epoch that is kept. What a trial
    tries follows from the seed, its number and the trials before it, so that one worker finds the same settings whether
    it was interrupted or not. Trials whose worker died are failed and tried again, once.

    Args:
        config: what is not searched.
        train: learned from.
        valid: judged on.
        tasks: in the order of the outputs.
        search: what is searched.
        study: where trials are kept.
        trials: how many the study shall have in the end, pruned ones included.
        seed: of the sampler.
        device: where the splits give their batches.
        open_trial: opens the MLflow run of a trial, given its number and settings.

    Raises:
        UsageError: the measure does not exist for these tasks.
    """
    Selection(search.metric, tuple(tasks))
    study.sampler = numbered_sampler(seed)
    own = _Objective(config, train, valid, tasks, search, trials, device, open_trial)
    while True:
        fail_dead_trials(study)
        finished, running = _counts(study)
        if finished >= trials:
            return
        if finished + running >= trials:
            time.sleep(POLL_SECONDS)  # others try the last ones; should they die, these are tried here
            continue
        study.optimize(own, n_trials=1, catch=(SurplusError,))


class SurplusError(Exception):
    """A trial that was begun while another worker began the last one."""


class _Objective:
    """One trial."""

    def __init__(
        self,
        config: TrainConfig,
        train: SplitData,
        valid: SplitData,
        tasks: Sequence[Task],
        search: Search,
        trials: int,
        device: torch.device,
        open_trial: OpenTrial,
    ) -> None:
        self.config, self.train, self.valid, self.tasks = config, train, valid, tasks
        self.search, self.trials, self.device, self.open_trial = search, trials, device, open_trial
        self.sizes = {key: len(table.names) for key, table in train.tables.items()}

    def __call__(self, trial: optuna.Trial) -> float:
        from optuna.exceptions import TrialPruned
        from optuna.trial import TrialState

        before = trial.study.get_trials(deepcopy=False)[: trial.number]
        if sum(other.state != TrialState.FAIL for other in before) >= self.trials:
            raise SurplusError
        trial.set_user_attr(WORKER, worker_name())
        settings = suggest(trial, self.search)
        pruned: TrialPruned | None = None
        value = 0.0
        with self.open_trial(trial.number, settings) as tracker:
            trial.set_user_attr(RUN, tracker.run_id)
            try:
                value = self._train(trial, settings, tracker)
            except TrialPruned as stopped:
                pruned = stopped
            except KeyboardInterrupt:
                trial.study.enqueue_trial(trial.params)
                raise
        if pruned is not None:
            raise pruned
        return value

    def _train(self, trial: optuna.Trial, settings: Mapping[str, Any], tracker: Tracker) -> float:
        """Train with these settings; what they make impossible ends the trial, not the sweep."""
        import torch
        from optuna.exceptions import TrialPruned

        from mmsa.model import MultimodalModel
        from mmsa.records import epoch_metrics
        from mmsa.training import fit

        def on_epoch(epoch: Epoch) -> None:
            tracker.metrics(epoch_metrics(epoch), epoch.number)
            trial.report(measured(epoch, self.search.metric), epoch.number)
            if trial.should_prune():
                tracker.tags({"mmsa.pruned": f"after epoch {epoch.number}"})
                raise TrialPruned

        try:
            tried = with_settings(self.config, settings)
            torch.manual_seed(tried.seed)
            model = MultimodalModel(sized_config(tried, self.sizes, self.tasks))
            history = fit(model, self.train, self.valid, self.tasks, tried, device=self.device, on_epoch=on_epoch)
        except (UsageError, torch.OutOfMemoryError) as error:
            reason = str(error).splitlines()[0]
            trial.set_user_attr(REASON, reason)
            tracker.tags({"mmsa.pruned": reason})
            raise TrialPruned from error
        value = measured(history.epochs[history.best - 1], self.search.metric)
        tracker.metrics({f"best/{self.search.metric}": value, "best_epoch": history.best}, step=history.best)
        return value


def measured(epoch: Epoch, measure: str) -> float:
    """What a trial is judged by, on the validation split.

    Raises:
        UsageError: it is not defined there, for want of labels.
    """
    if measure == LOSS:
        return epoch.valid_loss
    if measure not in epoch.valid_metrics:
        raise UsageError(f"{measure} is not defined on the validation split: its labels do not allow it")
    return epoch.valid_metrics[measure]


def suggest(trial: optuna.Trial, search: Search) -> dict[str, Any]:
    """The settings that a trial tries."""
    settings: dict[str, Any] = {}
    for key, own in search.parameters.items():
        if own.choices is not None:
            stored = trial.suggest_categorical(key, [encode_choice(choice) for choice in own.choices])
            settings[key] = decode_choice(own, stored)
            continue
        low, high = ends(own)
        draw = trial.suggest_int if own.kind == "int" else trial.suggest_float
        settings[key] = draw(key, low, high, log=own.log)
    return settings


def study_direction(search: Search) -> str:
    """Optuna's word for whether less or more is better."""
    return {"min": "minimize", "max": "maximize"}[direction(search.metric)]


def numbered_sampler(seed: int) -> optuna.samplers.BaseSampler:
    """A tree-structured Parzen estimator whose draws follow from the seed and the trial's number.

    Optuna's own keeps one stream of draws per process: a study that is gone on with would draw its first settings
    again, and workers with one seed would all try the same.
    """
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler, TPESampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    class Numbered(BaseSampler):  # type: ignore[misc]
        def __init__(self) -> None:
            self._number, self._sampler = -1, TPESampler()

        def _of(self, trial: FrozenTrial) -> TPESampler:
            if trial.number != self._number:
                digest = hashlib.sha256(f"{seed}/{trial.number}".encode()).digest()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # experimental in some versions of Optuna
                    self._sampler = TPESampler(
                        seed=int.from_bytes(digest[:4], "big"),
                        n_startup_trials=STARTUP_TRIALS,
                        multivariate=True,
                        constant_liar=True,
                    )
                self._number = trial.number
            return self._sampler

        def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
            return dict(self._of(trial).infer_relative_search_space(study, trial))

        def sample_relative(
            self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            return dict(self._of(trial).sample_relative(study, trial, search_space))

        def sample_independent(
            self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
        ) -> Any:
            return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    return Numbered()


def pruner() -> optuna.pruners.BasePruner:
    """Stops a trial whose best epoch so far is worse than the median trial's at that epoch."""
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=PRUNING_STARTS_TRIALS, n_warmup_steps=PRUNING_STARTS_EPOCHS)


def worker_name() -> str:
    """Who works here: machine, its table of processes (containers may share a machine's name), and process."""
    try:
        table = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no path
    except OSError:
        table = ""
    return f"{socket.gethostname()}/{table}/{os.getpid()}"


def fail_dead_trials(study: optuna.Study) -> None:
    """Fail the trials of workers that are no more, and put their settings up for another trial, once.

    A process of this machine is looked for; those of other machines are dead when their heartbeat stops, and
    `try_again` is the storage's callback.
    """
    from optuna.exceptions import ExperimentalWarning, OptunaError
    from optuna.storages import fail_stale_trials
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not is_dead(trial.user_attrs.get(WORKER)):
            continue
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, OptunaError):  # another worker was faster
            continue
        try_again(study, trial)


def try_again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Put the settings of a lost trial up for another one, unless it was that already: they may be what kills it."""
    if AGAIN not in trial.user_attrs:
        study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})


def is_dead(worker: str | None) -> bool:
    """Whether a worker was a process of this machine and is none now."""
    place, _, process = (worker or "").rpartition("/")
    if place != worker_name().rpartition("/")[0]:
        return False
    try:
        os.kill(int(process), 0)
        # A process that nobody waited for is still in the table.
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"
    except ProcessLookupError:
        return True
    except OSError:
        return False


def _counts(study: optuna.Study) -> tuple[int, int]:
    """Trials that are finished, and those that run."""
    from optuna.trial import TrialState

    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    finished = sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states)
    return finished, states.count(TrialState.RUNNING)
