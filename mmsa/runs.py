"""`train`: from a configuration to a finished, tracked run with its bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mmsa.config import TrainConfig
from mmsa.corpora.clip import SPLITS
from mmsa.distributed import current, join
from mmsa.errors import UsageError
from mmsa.tracking import Tracker, ensure_experiment, find_bundle, open_run
from mmsa.workshop import Workshop, choose_device, model_config, open_workshop

if TYPE_CHECKING:
    import torch

    from mmsa.calibration import Calibration
    from mmsa.checkpoint import Checkpoints
    from mmsa.model import MultimodalModel
    from mmsa.training import Epoch

__all__ = [
    "Run",
    "Workshop",
    "choose_device",
    "model_config",
    "open_workshop",
    "resume",
    "train",
    "train_on",
    "train_seeds",
]


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        id: MLflow's run id.
        experiment: MLflow's experiment name.
        head: short name of the fusion head.
        modalities: what the model was trained on.
        seed: of this run.
        metrics: on the test split, `"<task>.<metric>"`, by modalities at hand joined with `"+"`.
        epochs: how many were trained.
        best_epoch: which was kept.
        train_seconds: the loop alone, without extraction.
        notes: what a reader must know (missing modalities, the corpus's own note, warnings).
        weights: how much each modality counted on the test split, where the head knows.
        warnings: what the training itself gives reason to doubt (see `mmsa.diagnostics`); among the notes, too.
    """

    id: str
    experiment: str
    head: str
    modalities: tuple[str, ...]
    seed: int
    metrics: Mapping[str, Mapping[str, float]]
    epochs: int
    best_epoch: int
    train_seconds: float
    notes: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def test_metrics(self) -> Mapping[str, float]:
        """Test metrics with every modality at hand."""
        return self.metrics["+".join(self.modalities)]

    @property
    def bundle(self) -> Path:
        """The run's bundle folder."""
        return find_bundle(self.id)


def train(
    config: TrainConfig | None = None,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_start: Callable[[str, int], None] | None = None,
) -> Run:
    """Train one model, evaluate it on the test split, and leave both in MLflow.

    Args:
        config: None trains late fusion on the demo corpus.
        on_epoch: called after each epoch; of processes that were launched together (see `mmsa.distributed`), in the
            main one.
        on_start: called with the run's id, and with 0; in the main process.

    Raises:
        UsageError: the configuration asks for what cannot be done.
    """
    config = config or TrainConfig()
    return next(train_seeds(config, (config.seed,), on_epoch=on_epoch, on_start=on_start))


def train_seeds(
    config: TrainConfig,
    seeds: Sequence[int],
    *,
    processes: int = 1,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_start: Callable[[str, int], None] | None = None,
) -> Iterator[Run]:
    """One run per seed over the same features; each is yielded as it finishes.

    Args:
        config: its own seed is of no account.
        seeds: one run each.
        processes: runs at a time (see `mmsa.many`). With more than one, each computes with one thread in a process of
            its own; runs come in the order in which they finish, and a seed that fails is raised after the others.
        on_epoch: called after each epoch; not with several processes.
        on_start: called with a run's id, and with 0; not with several processes.

    Raises:
        UsageError: the configuration asks for what cannot be done.
    """
    from mmsa.model import check_options

    group = join()
    if group.size > 1 and processes > 1:
        raise UsageError(
            f"{processes} seeds side by side (--jobs) are {processes} trainings, but {group.size} processes were "
            "launched to share each: leave --jobs out, or start without torchrun or accelerate"
        )
    device = choose_device(config.device)
    check_options(config.fusion, config.head)
    shop = group.in_turns(lambda: open_workshop(config))
    if min(processes, len(seeds)) > 1:
        ensure_experiment(config.experiment or f"mmsa-{shop.corpus.name}")
        yield from _side_by_side(config, seeds, processes)
        return
    for seed in seeds:
        seeded = config.model_copy(update={"seed": seed})
        yield train_on(seeded, shop, device=device, on_epoch=on_epoch, on_start=on_start)


def _side_by_side(config: TrainConfig, seeds: Sequence[int], processes: int) -> Iterator[Run]:
    """The features are there already: workers map the same files and extract nothing."""
    from mmsa.many import run_many

    failure: Exception | None = None
    for _, result in run_many(partial(_train_seed, config), seeds, processes=processes):
        if isinstance(result, Exception):
            failure = failure or result
        else:
            yield result
    if failure is not None:
        raise failure


_shops: dict[str, Workshop] = {}
"""In a worker process: what the seeds that it trains share."""


def _train_seed(config: TrainConfig, seed: int) -> Run:
    key = config.model_dump_json()
    if key not in _shops:
        _shops[key] = open_workshop(config)
    return train_on(config.model_copy(update={"seed": seed}), _shops[key], device=choose_device(config.device))


def resume(
    run: str = "latest",
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_start: Callable[[str, int], None] | None = None,
) -> Run:
    """Go on with a run that was killed or failed, in the same MLflow run, as if it had never stopped.

    On a CPU the metrics and weights are the same bit for bit, with the same versions and number of threads.

    Args:
        run: its id, or `"latest"` for the newest one that is not finished.
        on_epoch: called after each epoch that is trained now.
        on_start: called with the run's id and the number of epochs that were trained before.

    Raises:
        FinishedError: there is nothing to go on with.
        UsageError: no such run, it is being trained, or what it was trained on has changed.
    """
    from mmsa.resume import find_unfinished

    found = join().share(lambda: find_unfinished(run))
    device = choose_device(found.config.device)
    shop = current().in_turns(lambda: open_workshop(found.config))
    return train_on(found.config, shop, device=device, on_epoch=on_epoch, on_start=on_start, resumed=found.id)


def train_on(
    config: TrainConfig,
    shop: Workshop,
    *,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_start: Callable[[str, int], None] | None = None,
    parent: str | None = None,
    resumed: str | None = None,
) -> Run:
    """Train one model on features that are open already, evaluate it on the test split, and leave both in MLflow.

    Args:
        config: its seed decides the weights, dropout and the order of batches.
        shop: from `open_workshop`.
        device: where to train.
        on_epoch: called after each epoch.
        on_start: called with the run's id and the number of epochs that were trained before.
        parent: id of the MLflow run that this one is nested in.
        resumed: id of the MLflow run to go on with; None starts one.
    """
    import torch

    from mmsa.model import MultimodalModel
    from mmsa.resume import identity

    group = current()
    if group.size > 1:
        group.must_agree(identity(config, shop))
    torch.manual_seed(config.seed)
    model = MultimodalModel(model_config(config, shop))
    with ExitStack() as stack:
        stack.enter_context(group.stopping_together())
        run, checkpoints = _open(config, shop, model, device, parent, resumed, stack)
        if not group.is_main:
            on_epoch = on_start = None
        result = _train(config, shop, model, run, checkpoints, device, on_epoch, on_start)
    if checkpoints is not None:
        checkpoints.delete()
    return result


def _open(
    config: TrainConfig,
    shop: Workshop,
    model: MultimodalModel,
    device: torch.device,
    parent: str | None,
    resumed: str | None,
    stack: ExitStack,
) -> tuple[Tracker, Checkpoints | None]:
    """The run and its checkpoints; of processes that train together the main one opens them."""
    from mmsa.resume import open_checkpoints, reopen_run

    opened: list[Tracker] = []

    def hold(run_id: str) -> Checkpoints | None:
        checkpoints = open_checkpoints(run_id, config, shop, device)
        if checkpoints is not None:
            stack.enter_context(checkpoints.locked())
        return checkpoints

    def open_here() -> tuple[str, Checkpoints | None]:
        if resumed is None:
            opened.append(stack.enter_context(_new_run(config, shop, model, parent)))
            return opened[0].run_id, hold(opened[0].run_id)
        checkpoints = hold(resumed)
        opened.append(stack.enter_context(reopen_run(resumed)))
        return resumed, checkpoints

    group = current()
    if group.size == 1:
        _, checkpoints = open_here()
        return opened[0], checkpoints
    from mmsa.following import FollowingTracker

    run_id = group.share(lambda: open_here()[0])
    return opened[0] if opened else FollowingTracker(run_id), open_checkpoints(run_id, config, shop, device)


def _notes(shop: Workshop) -> list[str]:
    from mmsa.features import summarise_missing, summarise_notes

    told = (*summarise_missing(shop.tables), *summarise_notes(shop.tables))
    return list(filter(None, (shop.corpus.note, *shop.remarks, *told)))


def _experiment(config: TrainConfig, shop: Workshop) -> str:
    return config.experiment or f"mmsa-{shop.corpus.name}"


def _new_run(
    config: TrainConfig, shop: Workshop, model: MultimodalModel, parent: str | None
) -> AbstractContextManager[Tracker]:
    from mmsa.records import note_tag
    from mmsa.resume import config_tag

    modalities = "+".join(model.config.input_dims)
    tags = {"mmsa.corpus": shop.corpus.name, "mmsa.head": model.config.head, "mmsa.modalities": modalities}
    tags |= config_tag(config) | note_tag(_notes(shop))
    name = f"{model.config.head}-{modalities}-seed{config.seed}"
    return open_run(_experiment(config, shop), name, tags, parent)


def _train(
    config: TrainConfig,
    shop: Workshop,
    model: MultimodalModel,
    run: Tracker,
    checkpoints: Checkpoints | None,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] | None,
    on_start: Callable[[str, int], None] | None,
) -> Run:
    """Everything between the opening of a run and its end."""
    from mmsa.calibration import calibration_metrics, fit_calibration
    from mmsa.diagnostics import diagnose
    from mmsa.evaluation import modality_subsets, predict
    from mmsa.records import (
        epoch_metrics,
        log_artifacts,
        note_tag,
        result_metrics,
        run_params,
        split_notes,
        warning_tag,
    )
    from mmsa.resume import checkpoint_notes
    from mmsa.training import Epoch, fit

    run.params({**run_params(config, model, shop), "processes": current().size})
    found = checkpoints.load() if checkpoints is not None else None
    before = [Epoch(**epoch) for epoch in found.facts["epochs"]] if found is not None else []
    for epoch in before:  # a kill may have come between an epoch's checkpoint and its metrics
        run.metrics(epoch_metrics(epoch), epoch.number)
    if on_start is not None:
        on_start(run.run_id, len(before))

    def log(epoch: Epoch) -> None:
        run.metrics(epoch_metrics(epoch), epoch.number)
        if on_epoch is not None:
            on_epoch(epoch)

    splits = {name: shop.split(name, device, resident_mb=config.resident_mb) for name in SPLITS}
    history = fit(
        model,
        splits["train"],
        splits["valid"],
        shop.tasks,
        config,
        device=device,
        on_epoch=log,
        checkpoints=checkpoints,
    )
    seconds = sum(epoch.progress["seconds"] for epoch in history.epochs)
    findings = diagnose(model, splits["valid"], shop.tasks, history, device=device)
    modalities = tuple(model.config.input_dims)
    tested = {
        "+".join(subset): predict(model, splits["test"], shop.tasks, device=device, modalities=subset)
        for subset in modality_subsets(modalities)
    }
    predictions = tested["+".join(modalities)]
    metrics = {subset: own.metrics(shop.tasks) for subset, own in tested.items()}
    results = result_metrics(metrics, "+".join(modalities)) | findings.measures
    calibration = fit_calibration(shop.tasks, predict(model, splits["valid"], shop.tasks, device=device))
    honesty = calibration_metrics(shop.tasks, predictions, calibration)
    results |= {f"test/{key}": value for key, value in honesty.items()}
    results |= {"train_seconds": seconds, "epochs": len(history.epochs), "best_epoch": history.best}
    run.metrics(results, step=history.best)
    notes = [*_notes(shop), *checkpoint_notes(checkpoints, found), *split_notes(history), *findings.warnings]
    run.tags(note_tag(notes) | warning_tag(findings.warnings))
    baseline = _mean_prediction(model, shop, device, calibration)
    if current().is_main:
        log_artifacts(run, model, shop, predictions, history, config, baseline, calibration)
    return Run(
        id=run.run_id,
        experiment=_experiment(config, shop),
        head=model.config.head,
        modalities=modalities,
        seed=config.seed,
        metrics=metrics,
        epochs=len(history.epochs),
        best_epoch=history.best,
        train_seconds=seconds,
        notes=tuple(notes),
        weights={key: float(value.mean()) for key, value in predictions.weights.items()},
        warnings=findings.warnings,
    )


def _mean_prediction(
    model: MultimodalModel, shop: Workshop, device: torch.device, calibration: Calibration
) -> tuple[float, ...]:
    """What the calibrated model says on average about the training split, as people read it."""
    import torch

    from mmsa.evaluation import predict
    from mmsa.model import readable

    found = predict(model, shop.split("train", device), shop.tasks, device=device)
    outputs = torch.cat([torch.from_numpy(found.outputs[task.name]) for task in shop.tasks], dim=1)
    return tuple(readable(shop.tasks, calibration.apply(shop.tasks, outputs)).mean(dim=0).tolist())
