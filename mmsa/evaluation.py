"""Predictions of a model on a split, and metrics for every subset of modalities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from mmsa.data import SplitData
from mmsa.metrics import compute_metrics
from mmsa.model import MultimodalModel, split_outputs, task_loss
from mmsa.tasks import Task


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about a split.

    Attributes:
        clips: clip ids, `N` of them.
        outputs: per task `(N, task.output_dim)`: scores or logits.
        labels: per task `(N,)`, NaN where unlabelled.
        loss: the task loss over the split (see `mmsa.model.task_loss`).
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
) -> Predictions:
    """Run a model over a split in evaluation mode.

    Args:
        model: moved to `device` already.
        data: the split.
        tasks: in the order of the outputs.
        device: where the model is.
        modalities: the others are treated as missing; None keeps all.
        batch_size: clips at once.
    """
    model.eval()
    outputs: list[torch.Tensor] = []
    weights: dict[str, list[torch.Tensor]] = {}
    with torch.no_grad():
        for batch in data.batches(batch_size):
            batch = batch.to(device)
            kept = {key: seq for key, seq in batch.inputs.items() if modalities is None or key in modalities}
            output = model(kept)
            outputs.append(output.prediction.cpu())
            for key, weight in output.weights.items():
                weights.setdefault(key, []).append(weight.cpu())
    prediction = torch.cat(outputs)
    parts = split_outputs(tasks, prediction)
    labels = {key: torch.from_numpy(label) for key, label in data.labels.items()}
    # Over the whole split at once: a mean of batch means would weigh clips by their batch where labels are missing.
    loss = task_loss(tasks, prediction, labels, torch.ones(len(prediction), dtype=torch.bool))
    return Predictions(
        clips=tuple(clip.id for clip in data.clips),
        outputs={key: part.numpy() for key, part in parts.items()},
        labels=dict(data.labels),
        loss=float(loss),
        weights={key: torch.cat(parts).numpy() for key, parts in weights.items()},
    )


def modality_subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, smallest first.

    Example:
        >>> modality_subsets(["text", "audio"])
        [('text',), ('audio',), ('text', 'audio')]
    """
    return [subset for size in range(1, len(modalities) + 1) for subset in combinations(modalities, size)]
