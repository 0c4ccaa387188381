"""How a killed run is found again and gone on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsa.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from mmsa.config import TrainConfig
from mmsa.corpora.clip import Corpus
from mmsa.distributed import current
from mmsa.encoders.spec import bases_of
from mmsa.errors import UsageError
from mmsa.features import FeatureTable
from mmsa.paths import cache_dir
from mmsa.tracking import STORE, Tracker, client, ending, is_default_store, tracking_uri

if TYPE_CHECKING:
    import torch

    from mmsa.runs import Workshop

CONFIG_TAG = "mmsa.config"
LONGEST_TAG = 5000
"""What every store takes for a tag's value."""

SAMPLED_BYTES = 1 << 24
"""How much of a feature table goes into its digest, evenly spread: enough to notice another extraction."""


class FinishedError(UsageError):
    """The run is finished: there is nothing to go on with."""


@dataclass(frozen=True)
class Unfinished:
    """A run that can be gone on with.

    Attributes:
        id: MLflow's.
        config: that it was started with.
    """

    id: str
    config: TrainConfig


def checkpoint_folder(run_id: str) -> Path:
    """Beside the default store; for a store elsewhere, in the cache folder of this machine."""
    root = STORE.resolve() if is_default_store() else cache_dir()
    return root / "checkpoints" / run_id


def open_checkpoints(run_id: str, config: TrainConfig, shop: Workshop, device: torch.device) -> Checkpoints | None:
    """Where a run's checkpoint belongs; None where none is wanted."""
    if not config.checkpoints:
        return None
    own = Checkpoints(
        checkpoint_folder(run_id),
        identity(config, shop),
        environment(device),
        every_updates=config.checkpoint_steps,
    )
    if current().size == 1:
        return own
    from mmsa.following import SharedCheckpoints

    return SharedCheckpoints(own, current())


def checkpoint_notes(checkpoints: Checkpoints | None, found: Checkpoint | None) -> list[str]:
    """What a reader of a run must know that went on from a checkpoint in other circumstances."""
    if checkpoints is None or found is None:
        return []
    before, now = found.facts["environment"], checkpoints.environment
    changed = [f"{key} {before.get(key)}, then {now[key]}" for key in now if before.get(key) != now[key]]
    return [f"Gone on with in another place ({'; '.join(changed)}): its last digits may differ"] if changed else []


def config_tag(config: TrainConfig) -> dict[str, str]:
    """The tag that a run can be started again from, before its first checkpoint."""
    value = config.model_dump_json()
    return {CONFIG_TAG: value} if len(value) <= LONGEST_TAG else {}


def identity(config: TrainConfig, shop: Workshop) -> dict[str, Any]:
    """What must be the same for a training to go on as if it had never stopped."""
    return {
        "configuration": json.loads(config.model_dump_json()),
        "corpus": _corpus_digest(shop.corpus),
        "features": {key: _table_digest(table) for key, table in sorted(shop.tables.items())},
        **({"encoders": bases_of(config.encoders)} if config.encoders else {}),
    }


def environment(device: torch.device) -> dict[str, Any]:
    """What decides the last bits beside it."""
    import platform

    import torch

    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": current().size,
        "device": device.type,
        "machine": platform.machine(),
    }


def find_unfinished(run: str) -> Unfinished:
    """The run to go on with.

    Args:
        run: its id, or `"latest"` for the newest training that is not finished.

    Raises:
        FinishedError: it is finished already.
        UsageError: there is no such run, or it left nothing to go on with.
    """
    from mlflow.exceptions import MlflowException

    if is_default_store() and not (STORE / "mlflow.db").is_file():
        raise UsageError(f"no run yet in {STORE.resolve()}: `mmsa train` starts one")
    run_id = _latest_unfinished() if run == "latest" else run
    try:
        found = client().get_run(run_id)
    except MlflowException as error:
        raise UsageError(
            f"there is no run {run!r} in {tracking_uri()} ({str(error).splitlines()[0]}): --resume takes an MLflow "
            "run id or 'latest'"
        ) from None
    if found.data.tags.get("mmsa") != "train":
        raise UsageError(f"run {run_id} is not a training: --resume goes on with what `mmsa train` started")
    if found.info.status == "FINISHED":
        epochs = int(found.data.metrics.get("epochs", 0))
        raise FinishedError(
            f"run {run_id} is finished ({epochs} epochs, the best was {int(found.data.metrics.get('best_epoch', 0))}): "
            "there is nothing to go on with"
        )
    kept = read_checkpoint(checkpoint_folder(run_id))
    if kept is not None:
        return Unfinished(run_id, TrainConfig.model_validate(kept.facts["identity"]["configuration"]))
    if CONFIG_TAG in found.data.tags:
        return Unfinished(run_id, TrainConfig.model_validate_json(found.data.tags[CONFIG_TAG]))
    raise UsageError(f"run {run_id} left no checkpoint in {checkpoint_folder(run_id)}: start it again")


def _latest_unfinished() -> str:
    store = client()
    experiments = [e.experiment_id for e in store.search_experiments()]
    wanted = "attributes.status != 'FINISHED' and tags.mmsa = 'train'"
    runs = store.search_runs(experiments, wanted, max_results=1, order_by=["attributes.start_time DESC"])
    if not runs:
        raise FinishedError(f"every training in {tracking_uri()} is finished: there is nothing to go on with")
    return str(runs[0].info.run_id)


@dataclass(frozen=True)
class ResumedTracker(Tracker):
    """A run that is open again: what it holds already is not logged twice."""

    known: dict[str, set[int]] = field(default_factory=dict)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log the parameters that are not there yet; a store refuses to change one."""
        there = self.store.get_run(self.run_id).data.params
        super().params({key: value for key, value in values.items() if key not in there})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log the metrics that are not there yet for this step."""
        super().metrics({key: value for key, value in values.items() if step not in self._steps(key)}, step)

    def _steps(self, key: str) -> set[int]:
        if key not in self.known:
            self.known[key] = {metric.step for metric in self.store.get_metric_history(self.run_id, key)}
        return self.known[key]


@contextmanager
def reopen_run(run_id: str) -> Iterator[Tracker]:
    """An unfinished run, running again; it ends as `mmsa.tracking.open_run` says."""
    store = client()
    store.update_run(run_id, status="RUNNING")
    experiment = store.get_run(run_id).info.experiment_id
    with ending(store, run_id):
        yield ResumedTracker(store, run_id, experiment)


def _corpus_digest(corpus: Corpus) -> str:
    digest = hashlib.sha256()
    for clip in corpus.clips:
        digest.update(json.dumps([clip.id, clip.split, dict(sorted(clip.labels.items()))]).encode())
    return f"{corpus.name}, {len(corpus.clips)} clips, {digest.hexdigest()[:16]}"


def _table_digest(table: FeatureTable) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(table.offsets).tobytes())
    rows = len(table.values)
    stride = max(1, -(-table.values.nbytes // SAMPLED_BYTES))
    digest.update(np.ascontiguousarray(table.values[::stride]).tobytes())
    return f"{table.spec.name} {table.spec.fingerprint}, {rows} steps, {digest.hexdigest()[:16]}"
