"""Predictions of a model on a split, and metrics for every subset of modalities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmsa.data import SplitData
from mmsa.losses import Objective
from mmsa.metrics import ClassReport, compute_metrics, per_class
from mmsa.model import MultimodalModel, split_outputs
from mmsa.sharing import share_batches
from mmsa.tasks import Task


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about a split.

    Attributes:
        clips: clip ids, `N` of them.
        outputs: per task `(N, task.output_dim)`: scores or logits.
        labels: per task `(N,)`, or `(N, C)` where several classes may hold; NaN where unlabelled.
        loss: the task loss over the split (see `mmsa.losses.Objective.task_loss`).
        weights: per modality `(N,)`, where the head knows them; otherwise empty.
    """

    clips: tuple[str, ...]
    outputs: dict[str, NDArray[np.float32]]
    labels: dict[str, NDArray[np.float32]]
    loss: float
    weights: dict[str, NDArray[np.float32]]

    def metrics(self, tasks: Sequence[Task]) -> dict[str, float]:
        """Every task's metrics, as `"<task>.<metric>"`."""
        return {
            f"{task.name}.{name}": value
            for task in tasks
            for name, value in compute_metrics(task, self.outputs[task.name], self.labels[task.name]).items()
        }


def predict(
    model: MultimodalModel,
    data: SplitData,
    tasks: Sequence[Task],
    *,
    device: torch.device,
    modalities: Collection[str] | None = None,
    batch_size: int = 64,
    objective: Objective | None = None,
) -> Predictions:
    """Run a model over a split in evaluation mode.

    Processes that train together share the batches; each has all predictions in the end.

    Args:
        model: moved to `device` already.
        data: the split.
        tasks: in the order of the outputs.
        device: where the model is.
        modalities: the others are treated as missing; None keeps all.
        batch_size: clips at once.
        objective: what `loss` is; None is the one of the default configuration.
    """
    model.eval()
    outputs: list[torch.Tensor] = []
    weights: dict[str, list[torch.Tensor]] = {}
    shares = share_batches(data.parts_by_length(batch_size, model.step_costs(list(data.tables))), model)
    with torch.no_grad():
        for index in shares.own:
            batch = data.batch(index).to(device)
            kept = {key: seq for key, seq in batch.inputs.items() if modalities is None or key in modalities}
            output = model(kept)
            outputs.append(output.prediction)
            for key, weight in output.weights.items():
                weights.setdefault(key, []).append(weight)
    computed = {"": torch.cat(outputs), **{key: torch.cat(parts) for key, parts in weights.items()}}
    found = {key: value.cpu() for key, value in shares.in_order(computed).items()}
    prediction = found.pop("")
    parts = split_outputs(tasks, prediction)
    labels = {key: torch.from_numpy(label).to(device) for key, label in data.labels.items()}
    # Over the whole split at once: a mean of batch means would weigh clips by their batch where labels are missing.
    objective = (objective or Objective(tasks)).to(device)
    everyone = torch.ones(len(prediction), dtype=torch.bool, device=device)
    with torch.no_grad():
        loss = objective.task_loss(prediction.to(device), labels, everyone)
    return Predictions(
        clips=tuple(clip.id for clip in data.clips),
        outputs={key: part.numpy() for key, part in parts.items()},
        labels=dict(data.labels),
        loss=float(loss),
        weights={key: value.numpy() for key, value in found.items()},
    )


def modality_subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, smallest first.

    Example:
        >>> modality_subsets(["text", "audio"])
        [('text',), ('audio',), ('text', 'audio')]
    """
    return [subset for size in range(1, len(modalities) + 1) for subset in combinations(modalities, size)]


def write_per_class(path: Path, tasks: Sequence[Task], predictions: Predictions) -> None:
    """A CSV table of how every class of every task fares; nothing is written where no task has classes."""
    import csv

    rows = [
        [task.name, *vars(report).values()]
        for task in tasks
        for report in per_class(task, predictions.outputs[task.name], predictions.labels[task.name])
    ]
    if rows:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["task", *(field.name for field in fields(ClassReport))], *rows])
