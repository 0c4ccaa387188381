"""The studies of a sweep: where trials are kept, in Optuna's database and as MLflow runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mmsa.config import TrainConfig
from mmsa.errors import UsageError
from mmsa.recipe import Parameter, Search
from mmsa.search import decode_choice, starting_point
from mmsa.tracking import STORE, Tracker, client, ending, open_run, tracking_uri

if TYPE_CHECKING:
    import optuna

HEARTBEAT_SECONDS = 10
LOCK_SECONDS = 60
PARENT = "mlflow_parent"
STORE_OF_PARENT = "mlflow_store"


@dataclass(frozen=True)
class Trial:
    """One finished trial.

    Attributes:
        number: in its study.
        settings: that were tried.
        value: of the measure in the epoch that was kept; None where the trial was stopped early.
        reason: why the settings could not be trained, or None.
    """

    number: int
    settings: Mapping[str, Any]
    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Plan:
    """What one row's sweep is to do; sent to worker processes.

    Attributes:
        row: name of the row.
        config: the settings that stay, and the start.
        search: what is searched.
        trials: how many the study shall have.
        seed: of the sampler.
        storage: where studies are kept.
        study: name; what decides the trials is in it, so that a changed recipe is another study.
        parent: id of the MLflow run of the sweep.
        experiment: MLflow's, by name.
    """

    row: str
    config: TrainConfig
    search: Search
    trials: int
    seed: int
    storage: str
    study: str = ""
    parent: str = ""
    experiment: str = ""


def own_storage() -> str:
    """URL of the database in `mlruns/`, beside MLflow's."""
    STORE.mkdir(exist_ok=True)
    return f"sqlite:///{(STORE / 'sweeps.db').resolve()}"


def require_optuna() -> None:
    """Import it, and keep it from telling about every trial, which is our part.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError("a sweep needs Optuna, which is not installed: pip install 'mmsa-framework[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _storage(url: str) -> optuna.storages.RDBStorage:
    import inspect
    import warnings

    from optuna.storages import RDBStorage

    from mmsa.tuning import try_again

    names = inspect.signature(RDBStorage).parameters  # the callback got another name in Optuna 5
    new, old = "heartbeat_stale_trial_callback", "failed_trial_callback"
    callback = {new if new in names else old: try_again}
    options = {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heartbeats are experimental in some versions of Optuna
        try:
            storage = RDBStorage(url, engine_kwargs=options, heartbeat_interval=HEARTBEAT_SECONDS, **callback)
            if url.startswith("sqlite"):
                _lock_before_reading(storage.engine)
            return storage
        except Exception as error:  # whatever SQLAlchemy and a database driver raise
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"the storage {url} cannot be opened: {reason}. It is a database URL such as sqlite:///sweeps.db"
            ) from error


def _lock_before_reading(engine: Any) -> None:
    """Have every transaction on a SQLite file take the write lock as it begins.

    Optuna reads whether a trial waits, and then writes that it runs. SQLite locks the file only for the latter, so that
    two workers may take the same trial, and the second fails when it is to tell the result.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def leave_it_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def lock(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections that are open already


def load_study(plan: Plan) -> optuna.Study:
    """The study of a plan, by another worker."""
    import optuna

    from mmsa.tuning import pruner

    return optuna.load_study(study_name=plan.study, storage=_storage(plan.storage), pruner=pruner())


def open_study(plan: Plan, recipe: str) -> tuple[optuna.Study, Plan]:
    """The study of a plan and its MLflow run, made where they are not there yet.

    The settings of the recipe itself are the first trial of a new study, as far as they lie in the space.
    """
    import optuna
    from filelock import FileLock

    from mmsa.tuning import study_direction

    STORE.mkdir(exist_ok=True)
    with FileLock(STORE / ".sweeps.lock"):  # the same command may be started twice at once
        storage = _storage(plan.storage)
        study = optuna.create_study(
            storage=storage, study_name=plan.study, direction=study_direction(plan.search), load_if_exists=True
        )
        start = starting_point(plan.config, plan.search)
        if not study.trials and start:
            study.enqueue_trial(start)
        known = study.user_attrs
        if PARENT not in known or known.get(STORE_OF_PARENT) != tracking_uri():
            study.set_user_attr(PARENT, _new_run(plan, recipe))
            study.set_user_attr(STORE_OF_PARENT, tracking_uri())
        return load_study(plan), replace(plan, parent=str(study.user_attrs[PARENT]))


def _new_run(plan: Plan, recipe: str) -> str:
    """The MLflow run of a sweep."""
    tags = {
        "mmsa.corpus": plan.config.corpus,
        "mmsa.head": plan.config.fusion,
        "mmsa.recipe": recipe,
        "mmsa.study": plan.study,
    }
    with open_run(plan.experiment, f"sweep-{plan.row}", tags, kind="sweep") as tracker:
        space = {f"search.{key}": _said(own) for key, own in plan.search.parameters.items()}
        tracker.params({"measure": plan.search.metric, "sampler_seed": plan.seed, **space})
    return tracker.run_id


def _said(parameter: Parameter) -> str:
    return json.dumps(parameter.model_dump(mode="json", exclude_defaults=True))


@contextmanager
def sweep_run(run_id: str) -> Iterator[Tracker]:
    """The sweep's MLflow run, running again."""
    store = client()
    store.update_run(run_id, status="RUNNING")
    with ending(store, run_id):
        yield Tracker(store, run_id, str(store.get_run(run_id).info.experiment_id))


@contextmanager
def open_trial(plan: Plan, number: int, settings: Mapping[str, Any]) -> Iterator[Tracker]:
    """The MLflow run of a trial, nested in the sweep's."""
    tags = {"mmsa.head": plan.config.fusion, "mmsa.study": plan.study, "mmsa.trial": str(number)}
    with open_run(plan.experiment, f"trial-{number}", tags, plan.parent, kind="trial") as tracker:
        tracker.params({**settings, "fusion": plan.config.fusion, "seed": plan.config.seed})
        yield tracker


def finished_trials(study: optuna.Study, search: Search) -> tuple[Trial, ...]:
    """Complete and stopped trials, in order."""
    from optuna.trial import TrialState

    from mmsa.tuning import REASON

    found = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return tuple(
        Trial(
            trial.number,
            {key: decode_choice(search.parameters[key], value) for key, value in trial.params.items()},
            trial.value if trial.state == TrialState.COMPLETE else None,
            trial.user_attrs.get(REASON),
        )
        for trial in found
    )


def best_of(study: optuna.Study, trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the best value, the earliest of equals."""
    from optuna.study import StudyDirection

    sign = 1 if study.direction == StudyDirection.MINIMIZE else -1
    complete = [trial for trial in trials if trial.value is not None]
    return min(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number)) if complete else None


def end_lost_runs(study: optuna.Study) -> None:
    """MLflow runs of trials whose process was killed would run for ever."""
    from optuna.trial import TrialState

    from mmsa.tuning import RUN

    store = client()
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        run_id = trial.user_attrs.get(RUN)
        if run_id is not None and store.get_run(run_id).info.status == "RUNNING":
            store.set_terminated(run_id, "KILLED")
