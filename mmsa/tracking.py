"""MLflow: where runs are kept, how they are written and found again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.bundle import DESCRIPTION
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

STORE = Path("mlruns")
"""Folder of the default store, in the working directory."""

BUNDLE = "bundle"
"""Artifact folder of a run's bundle."""


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or an SQLite store in `mlruns/` of the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(STORE / 'mlflow.db').resolve()}"


def is_default_store() -> bool:
    """Whether runs go to the store in the working directory."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def client() -> MlflowClient:
    """A client of the store; the default store's folder is made.

    Raises:
        UsageError: the store does not answer.
    """
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a machine without git is fine
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    quieten()
    if is_default_store():
        STORE.mkdir(exist_ok=True)
    try:
        return MlflowClient(tracking_uri=tracking_uri())
    except (MlflowException, OSError, ImportError) as error:
        raise UsageError(
            f"the MLflow store {tracking_uri()} cannot be opened: {error}. Check MLFLOW_TRACKING_URI"
        ) from (None)


def quieten() -> None:
    """MLflow tells about every schema migration of a new store; only warnings matter to a user."""
    import logging

    for name in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)


@dataclass(frozen=True)
class Tracker:
    """An open run.

    Attributes:
        store: the client.
        run_id: MLflow's.
        experiment_id: MLflow's.
    """

    store: MlflowClient
    run_id: str
    experiment_id: str

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; long ones are cut to what every store takes."""
        from mlflow.entities import Param

        params = [Param(key, str(value)[:500]) for key, value in values.items()]
        self.store.log_batch(self.run_id, params=params)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at a step."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for key, value in values.items()]
        for start in range(0, len(metrics), 500):
            self.store.log_batch(self.run_id, metrics=metrics[start : start + 500])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in values.items():
            self.store.set_tag(self.run_id, key, value)

    def artifacts(self, folder: Path, to: str | None = None) -> None:
        """Log a folder's files."""
        self.store.log_artifacts(self.run_id, str(folder), to)


@contextmanager
def open_run(
    experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None, kind: str = "train"
) -> Iterator[Tracker]:
    """A new run; it ends as FINISHED, as FAILED on an error, as KILLED on an interruption.

    Args:
        experiment: made where it is not there yet.
        name: of the run.
        tags: of the run.
        parent: id of the run that this one is nested in.
        kind: the command that made it; `find_bundle("latest")` looks at `"train"` alone.
    """
    from mlflow.exceptions import MlflowException

    store = client()
    try:
        experiment_id = _experiment(store, experiment)
        about = {"mmsa": kind, "mlflow.source.name": f"mmsa {kind}", "mlflow.source.type": "LOCAL", **tags}
        if parent is not None:
            about["mlflow.parentRunId"] = parent
        run_id = store.create_run(experiment_id, run_name=name, tags=about).info.run_id
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"the MLflow store {tracking_uri()} refuses a run: {reason}. Check MLFLOW_TRACKING_URI"
        ) from error
    with ending(store, run_id):
        yield Tracker(store, run_id, experiment_id)


@contextmanager
def ending(store: MlflowClient, run_id: str) -> Iterator[None]:
    """Let an open run end as FINISHED, as FAILED on an error, as KILLED on an interruption."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        store.set_terminated(run_id, status)


def ensure_experiment(name: str) -> None:
    """Make the store and an experiment in it, before several processes would do it at once.

    Raises:
        UsageError: the store does not answer, or the experiment is deleted.
    """
    _experiment(client(), name)


def _experiment(store: MlflowClient, name: str) -> str:
    """The id of an experiment, made where it is not there yet."""
    found = store.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise UsageError(f"the MLflow experiment {name!r} is deleted: restore it, or set another experiment")
    if found is not None:
        return str(found.experiment_id)
    location = (STORE / "artifacts").resolve().as_uri() if is_default_store() else None
    return str(store.create_experiment(name, artifact_location=location))


def find_bundle(run: str) -> Path:
    """The bundle folder of a run.

    Args:
        run: a bundle folder, an MLflow run id, a registered model (see `mmsa.registry`), or `"latest"` for the newest
            finished run of the store.

    Raises:
        UsageError: there is no such run, or it left no bundle.
    """
    folder = Path(run)
    if (folder / DESCRIPTION).is_file():
        return folder
    if folder.is_dir():
        raise UsageError(f"{folder} is a folder but not a bundle: it holds no {DESCRIPTION}")
    if is_default_store() and not (STORE / "mlflow.db").is_file():  # asking a store that is not there would make it
        given = "" if run == "latest" else f"there is no folder {run}, and "
        raise UsageError(
            f"{given}no run yet in {STORE.resolve()}: run `mmsa train` first, or give a run id or a bundle folder"
        )
    run_id = _latest() if run == "latest" else _named(run)
    from mlflow.exceptions import MlflowException

    try:
        path = _artifact(run_id, BUNDLE)
    except (MlflowException, OSError) as error:
        raise UsageError(
            f"no bundle found for {run!r} in {tracking_uri()} ({str(error).splitlines()[0]}). RUN is an MLflow run id, "
            "a registered model, a bundle folder, or 'latest'"
        ) from None
    if not (path / DESCRIPTION).is_file():
        raise UsageError(f"run {run_id} left no bundle: it did not finish, or is not a run of mmsa")
    return path


def find_run(run: str) -> str | None:
    """The id of the run that a name given to `find_bundle` means; None for a bundle folder.

    Raises:
        UsageError: `"latest"` where no run is finished.
    """
    if Path(run).is_dir():
        return None
    if is_default_store() and not (STORE / "mlflow.db").is_file():
        return run  # `find_bundle` says what is missing
    return _latest() if run == "latest" else _named(run)


def _named(run: str) -> str:
    """The id of a run that is given by it, or by a registered model."""
    from mmsa.registry import RUN_ID, registered_run

    return run if RUN_ID.fullmatch(run) else registered_run(client(), run) or run


def _artifact(run_id: str, name: str) -> Path:
    """A run's artifact, in place where it lies on this machine, else fetched."""
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    store = client()
    uri = urlparse(store.get_run(run_id).info.artifact_uri)
    if uri.scheme in ("", "file"):  # the client would copy every weight to a temporary folder and leave it there
        return Path(url2pathname(uri.path)) / name
    return Path(store.download_artifacts(run_id, name))


def _latest() -> str:
    store = client()
    experiments = [e.experiment_id for e in store.search_experiments()]
    wanted = "attributes.status = 'FINISHED' and tags.mmsa = 'train'"
    runs = store.search_runs(experiments, wanted, max_results=1, order_by=["attributes.start_time DESC"])
    if not runs:
        raise UsageError(f"no finished run in {tracking_uri()}: run `mmsa train` first, or give a run id")
    return str(runs[0].info.run_id)
