"""The training loop: one, for every head and task."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from mmsa.batching import padding_share, shuffled_batches
from mmsa.checkpoint import Checkpoint, Checkpoints, random_state, restore_random_state
from mmsa.config import TrainConfig
from mmsa.data import SplitData, target_matrix
from mmsa.diagnostics import check_features
from mmsa.distributed import current
from mmsa.evaluation import predict
from mmsa.kernels import bound_kernel_cache
from mmsa.losses import Objective
from mmsa.model import MultimodalModel
from mmsa.selection import Selection
from mmsa.sharing import is_sharded
from mmsa.tasks import Task
from mmsa.trainer import Index, Trainer, Update


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split left.

    Attributes:
        number: from 1.
        train_loss: mean over clips, all terms.
        valid_loss: task loss on the validation split.
        valid_metrics: `"<task>.<metric>"` on the validation split.
        parts: mean over clips of each term of the training loss.
        progress: `"learning_rate"` and `"gradient_norm"` (means over updates, norms that overflowed left out),
            `"seconds"` with validation, `"clips_per_second"` without, `"padding"`: share of padded steps;
            `"task_weight.<task>"` where these are learned.
    """

    number: int
    train_loss: float
    valid_loss: float
    valid_metrics: dict[str, float]
    parts: dict[str, float]
    progress: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """A finished training.

    Attributes:
        epochs: one entry per epoch.
        best: number of the epoch whose weights were kept.
        split_losses: names of losses that each process made of its own clips of a batch alone, so that they are not
            those of one process.
    """

    epochs: tuple[Epoch, ...]
    best: int
    split_losses: tuple[str, ...] = ()


def fit(
    model: MultimodalModel,
    train: SplitData,
    valid: SplitData,
    tasks: Sequence[Task],
    config: TrainConfig,
    *,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> History:
    """Train a model and leave the weights of its best validation epoch in it. The test split is no argument.

    The normalisers are fitted on the training split first. Selection and early stopping look at `config.select` on
    the validation split.

    Args:
        model: changed in place.
        train: the split to learn from.
        valid: the split to select on.
        tasks: in the order of the outputs.
        config: optimiser, schedule, epochs, patience, seed.
        device: where to train, and where the splits give their batches.
        on_epoch: called after each epoch that is trained in this call.
        checkpoints: where to keep what a killed training is resumed from; what is there already is gone on with.

    Raises:
        UsageError: features, the loss or its gradient are not finite, or a checkpoint cannot be written.
    """
    bound_kernel_cache()
    check_features(train, "train")
    check_features(valid, "valid")
    model.to(device)
    model.fit_normalisers(train)
    current().same_weights(model)
    with _denormals_flushed():
        loop = _Loop(model, train, valid, tasks, config, device, checkpoints)
        history = loop.run(on_epoch)
    _fit_after_training(model, valid, tasks, device, config.batch_size)
    current().same_weights(model)
    model.eval()
    return history


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Denormal states make recurrent cells several times slower on CPUs; count them as zero meanwhile."""
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # numpy warns when it first looks at these limits while denormals are flushed
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class _Loop:
    """Epochs, selection and checkpoints around a `Trainer`."""

    def __init__(
        self,
        model: MultimodalModel,
        train: SplitData,
        valid: SplitData,
        tasks: Sequence[Task],
        config: TrainConfig,
        device: torch.device,
        checkpoints: Checkpoints | None,
    ) -> None:
        self.result = model
        self.model = _spread(model) if config.sharding == "full" else model
        self.train, self.valid, self.tasks = train, valid, tuple(tasks)
        self.config, self.device, self.checkpoints = config, device, checkpoints
        self.selection = Selection(config.select, self.tasks)
        self.objective = Objective(tasks, config.loss, train.labels).to(device)
        updates = math.ceil(math.ceil(len(train) / config.batch_size) / config.accumulate)
        self.trainer = Trainer(self.model, self.objective, train, config, device=device, updates_per_epoch=updates)
        self.epochs: list[Epoch] = []
        self.running = _Running()
        self.best, self.best_cost = 0, math.inf
        self.best_state: dict[str, Tensor] = {}
        found = checkpoints.load() if checkpoints is not None else None
        if found is not None:
            self._restore(found)

    def run(self, on_epoch: Callable[[Epoch], None]) -> History:
        """All epochs; leaves the best one's weights in the model."""
        while len(self.epochs) < self.config.epochs and len(self.epochs) - self.best < self.config.patience_epochs:
            on_epoch(self._epoch())
        self.result.load_state_dict(self.best_state)
        return History(tuple(self.epochs), self.best, tuple(sorted(self.trainer.split_losses)))

    def _plan(self, number: int) -> list[list[Index]]:
        """The updates of an epoch, each as the batches that count as one; the seed and the number decide them."""
        generator = np.random.default_rng([self.config.seed, number])
        size, count = self.config.batch_size, self.config.accumulate
        batches = shuffled_batches(self.train.lengths, size, generator, bucketing=self.config.bucketing)
        return [batches[start : start + count] for start in range(0, len(batches), count)]

    def _epoch(self) -> Epoch:
        started = time.perf_counter() - self.running.seconds
        number = len(self.epochs) + 1
        plan = self._plan(number)
        self.model.train()
        for parts in plan[self.running.updates :]:
            self.running.add(self.trainer.step(parts))
            if self._is_due(len(plan)):
                self.running.seconds = time.perf_counter() - started
                self._save()
        trained = time.perf_counter() - started
        loss, metrics, better = self._validate(number)
        terms = self.running.terms()
        progress = self.running.progress() | {
            "seconds": time.perf_counter() - started,
            "clips_per_second": len(self.train) / trained,
            "padding": padding_share(
                self.train.lengths, [part for update in plan for part in self.trainer.cut(update)]
            ),
            **{f"task_weight.{name}": weight for name, weight in self.objective.learned_weights().items()},
        }
        epoch = Epoch(number, sum(terms.values()), loss, metrics, terms, progress)
        self.trainer.rate.after_epoch(better=better)
        self.epochs.append(epoch)
        self.running = _Running()
        self._save()
        return epoch

    def _validate(self, number: int) -> tuple[float, dict[str, float], bool]:
        """Judge the weights that would be kept, and keep them where they are the best so far.

        Returns:
            Loss and metrics on the validation split, and whether they are the best so far.
        """
        average = self.trainer.average
        with average.applied() if average is not None else nullcontext():
            found = predict(self.model, self.valid, self.tasks, device=self.device, objective=self.objective)
            metrics = found.metrics(self.tasks)
            cost = self.selection.cost(found.loss, metrics)
            better = current().decide(self.best == 0 or cost < self.best_cost)
            if better:
                self.best, self.best_cost = number, cost
                self.best_state = copy.deepcopy(_whole_state(self.model))
        return found.loss, metrics, better

    def _is_due(self, updates: int) -> bool:
        every = self.checkpoints.every_updates if self.checkpoints is not None else None
        return every is not None and self.running.updates % every == 0 and self.running.updates < updates

    def _save(self) -> None:
        """Keep all that the rest of the training depends on."""
        if self.checkpoints is None:
            return
        drawn, generators = random_state(self.device)
        tensors = self.trainer.tensors()
        tensors |= {f"best.{key}": value for key, value in self.best_state.items()}
        tensors |= {f"random.{key}": value for key, value in drawn.items()}
        facts = {
            "trainer": self.trainer.facts(),
            "random": generators,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "running": asdict(self.running),
            "best": self.best,
            "best_cost": self.best_cost,
        }
        self.checkpoints.save(tensors, facts)

    def _restore(self, checkpoint: Checkpoint) -> None:
        facts = checkpoint.facts
        self.trainer.restore(checkpoint, facts["trainer"])
        self.epochs = [Epoch(**epoch) for epoch in facts["epochs"]]
        self.running = _Running(**facts["running"])
        self.best, self.best_cost = facts["best"], facts["best_cost"]
        self.best_state = checkpoint.group("best")
        restore_random_state(checkpoint.group("random"), facts["random"], self.device)


@dataclass
class _Running:
    """Sums over the updates of an epoch that is under way."""

    updates: int = 0
    clips: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    rates: float = 0.0
    norms: float = 0.0
    finite: int = 0
    seconds: float = 0.0

    def add(self, update: Update) -> None:
        self.updates += 1
        self.clips += update.clips
        for key, value in update.terms.items():
            self.sums[key] = self.sums.get(key, 0.0) + value * update.clips
        self.rates += update.learning_rate
        if math.isfinite(update.gradient_norm):
            self.norms += update.gradient_norm
            self.finite += 1

    def terms(self) -> dict[str, float]:
        return {key: value / self.clips for key, value in self.sums.items()}

    def progress(self) -> dict[str, float]:
        norm = self.norms / self.finite if self.finite else math.nan
        return {"learning_rate": self.rates / self.updates, "gradient_norm": norm}


def _spread(model: MultimodalModel) -> MultimodalModel:
    """A copy of it that is spread over the processes."""
    from mmsa.sharding import check_sharding, sharded_copy

    check_sharding(current())
    return sharded_copy(model)


def _whole_state(model: MultimodalModel) -> dict[str, Tensor]:
    """The state dict, of a model that is spread over processes put together."""
    state: dict[str, Tensor] = model.state_dict()
    if not any(map(is_sharded, state.values())):
        return state
    from mmsa.sharding import whole

    return whole(state)


def _fit_after_training(
    model: MultimodalModel, valid: SplitData, tasks: Sequence[Task], device: torch.device, batch_size: int
) -> None:
    """Let heads that have one run their closing step (stacking fits its meta-classifier on held-out predictions)."""
    closing = getattr(model.head, "fit_after_training", None)
    if closing is None:
        return
    model.eval()
    with torch.no_grad():
        batches = (batch.to(device) for batch in valid.batches(batch_size))
        closing([(model.prepare(batch.inputs), target_matrix(tasks, batch.labels)) for batch in batches])
