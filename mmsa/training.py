"""The training loop: one, for every head and task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion import FusionOutput, ModalityDropout
from mmsa.config import TrainConfig
from mmsa.data import Batch, SplitData, target_matrix
from mmsa.errors import UsageError
from mmsa.evaluation import predict
from mmsa.model import MultimodalModel, task_loss
from mmsa.tasks import Task


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split left.

    Attributes:
        number: from 1.
        train_loss: mean over steps, all terms.
        valid_loss: task loss on the validation split; what early stopping and selection look at.
        valid_metrics: `"<task>.<metric>"` on the validation split.
        parts: mean over steps of each term of the training loss.
    """

    number: int
    train_loss: float
    valid_loss: float
    valid_metrics: dict[str, float]
    parts: dict[str, float]


@dataclass(frozen=True)
class History:
    """A finished training.

    Attributes:
        epochs: one entry per epoch.
        best: number of the epoch whose weights were kept.
    """

    epochs: tuple[Epoch, ...]
    best: int


def fit(
    model: MultimodalModel,
    train: SplitData,
    valid: SplitData,
    tasks: Sequence[Task],
    config: TrainConfig,
    *,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> History:
    """Train a model and leave the weights of its best validation epoch in it. The test split is no argument.

    The normalisers are fitted on the training split first. Selection and early stopping use the task loss on the
    validation split.

    Args:
        model: changed in place.
        train: the split to learn from.
        valid: the split to select on.
        tasks: in the order of the outputs.
        config: optimiser, epochs, patience, seed.
        device: where to train.
        on_epoch: called after each epoch.

    Raises:
        UsageError: the loss became NaN or infinite.
    """
    for key in model.config.input_dims:
        model.normalisers[key].fit(train, key)  # type: ignore[operator]
    model.to(device)
    with _denormals_flushed():
        history = _fit(model, train, valid, tasks, config, device, on_epoch)
    _fit_after_training(model, valid, tasks, device, config.batch_size)
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


def _fit(
    model: MultimodalModel,
    train: SplitData,
    valid: SplitData,
    tasks: Sequence[Task],
    config: TrainConfig,
    device: torch.device,
    on_epoch: Callable[[Epoch], None],
) -> History:
    trainer = _Trainer(model, tasks, config)
    shuffle = np.random.default_rng(config.seed)
    epochs: list[Epoch] = []
    best, best_state = 0, copy.deepcopy(model.state_dict())
    while len(epochs) < config.epochs and len(epochs) - best < config.patience_epochs:
        parts = trainer.epoch(batch.to(device) for batch in train.batches(config.batch_size, shuffle))
        found = predict(model, valid, tasks, device=device)
        epoch = Epoch(len(epochs) + 1, parts.pop("total"), found.loss, found.metrics(tasks), parts)
        epochs.append(epoch)
        if best == 0 or epoch.valid_loss < epochs[best - 1].valid_loss:
            best, best_state = epoch.number, copy.deepcopy(model.state_dict())
        on_epoch(epoch)
    model.load_state_dict(best_state)
    return History(tuple(epochs), best)


class _Trainer:
    """Optimiser and step."""

    def __init__(self, model: MultimodalModel, tasks: Sequence[Task], config: TrainConfig) -> None:
        self.model = model
        self.dropout = ModalityDropout(model.head, config.modality_dropout)
        self.tasks = tasks
        self.config = config
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def epoch(self, batches: Iterable[Batch]) -> dict[str, float]:
        """One pass; returns the mean of each loss term and `"total"`."""
        self.model.train()
        sums: dict[str, float] = {}
        count = 0
        for batch in batches:
            terms = self.step(batch)
            count += 1
            for key, value in terms.items():
                sums[key] = sums.get(key, 0.0) + value
        return {key: value / count for key, value in sums.items()}

    def step(self, batch: Batch) -> dict[str, float]:
        """One update."""
        self.optimiser.zero_grad(set_to_none=True)
        seen = self.dropout.drop(self.model.prepare(batch.inputs))
        output = self.model.head(seen)
        present = {key: sequence.present for key, sequence in seen.items()}
        terms = self.loss_terms(output, batch, present)
        total = torch.stack(list(terms.values())).sum()
        values = {key: float(term.detach()) for key, term in terms.items()}
        if not torch.isfinite(total):
            bad = ", ".join(f"{key} = {value:.3g}" for key, value in values.items())
            raise UsageError(f"the training loss is not finite ({bad}): lower learning_rate, or look at the features")
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimiser.step()
        return {"total": float(total.detach()), **values}

    def loss_terms(self, output: FusionOutput, batch: Batch, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The task's loss, the unimodal predictions' and what the head asks for."""
        everyone = torch.ones_like(batch.index, dtype=torch.bool)
        terms = {"task": task_loss(self.tasks, output.prediction, batch.labels, everyone)}
        terms.update(self.unimodal_terms(output, batch, present))
        terms.update(output.losses)
        target = target_matrix(self.tasks, batch.labels)
        terms.update(self.model.head.target_losses(output, target, batch.index))
        return terms

    def unimodal_terms(self, output: FusionOutput, batch: Batch, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each modality's own prediction against the clip's label, over the clips whose modality the head saw."""
        if not output.unimodal or not self.config.unimodal_weight:
            return {}
        scale = self.config.unimodal_weight / len(output.unimodal)
        return {
            f"unimodal_{key}": scale * task_loss(self.tasks, value, batch.labels, present[key])
            for key, value in output.unimodal.items()
        }


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
