"""What a training minimises: the losses of the tasks, of unimodal predictions and of the head, weighted in one place.

Every task's loss is a mean over the clips that have a label, errors of regression being counted in halves of the
task's range, so that sentiment in [-3, 3] and in [-1, 1] weigh alike beside emotion. docs/tasks.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion import FusionHead, FusionOutput
from mmsa.data import target_matrix
from mmsa.errors import UsageError, unknown
from mmsa.loss_config import LossConfig
from mmsa.model import split_outputs
from mmsa.tasks import Classification, MultiLabel, Regression, Task

if TYPE_CHECKING:
    from mmsa.data import Batch

Labels = Mapping[str, NDArray[np.floating[Any]]]

SCALES = {"mse": (0.5, 1.0), "l1": (1.0, 0.5)}
"""For learned task weights, by regression loss: factor of the loss, and of the log variance that divides it.

A Gaussian's negative log-likelihood is e² / 2σ² + log σ, a Laplacian's |e| / b + log b; with s = log σ² and
s / 2 = log b they are ½ exp(-s) L + s / 2 and exp(-s / 2) L + s / 2. All other losses: exp(-s) L + s / 2.
"""


def check_loss(config: LossConfig, tasks: Sequence[Task]) -> None:
    """Refuse settings that these tasks leave without effect or that name what they do not have.

    Raises:
        UsageError: all is said about the first of them.
    """
    by_name = {task.name: task for task in tasks}
    classed = {task.name: task.classes for task in tasks if not isinstance(task, Regression)}
    learned = ", ".join(by_name)
    changed = {key for key, value in config if value != type(config).model_fields[key].default}
    if len(classed) == len(tasks) and "regression" in changed:
        raise UsageError(
            f"loss.regression is {config.regression}, but no task predicts a number: {learned}; leave it out"
        )
    about_classes = sorted(changed & {"classification", "class_weights", "label_smoothing"})
    if not classed and about_classes:
        raise UsageError(f"loss.{about_classes[0]} is set, but no task predicts classes: {learned}; leave it out")
    if config.task_weights == "learned" and len(tasks) < 2:
        raise UsageError(
            f"loss.task_weights: learned weighs tasks against each other, but there is one: {learned}; leave it out"
        )
    if config.task_weights != "learned":
        _check_task_weights(config.task_weights, list(by_name))
    if not isinstance(config.class_weights, str):
        for name, weights in config.class_weights.items():
            if name not in classed:
                raise unknown("task with classes, for loss.class_weights,", name, classed)
            for key in weights:
                if key not in classed[name]:
                    raise unknown(f"class of {name}, for loss.class_weights,", key, classed[name])


def _check_task_weights(weights: Mapping[str, float], tasks: Sequence[str]) -> None:
    for name in weights:
        if name not in tasks:
            raise unknown("task, for loss.task_weights,", name, tasks)
    if not any(weights.get(name, 1.0) for name in tasks):
        raise UsageError(f"loss.task_weights leaves no task that counts, of {', '.join(tasks)}")


class Objective(nn.Module):
    """The training loss of a set of tasks.

    Its parameters, where the task weights are learned, join the optimiser; its buffers go where the model is.

    Args:
        tasks: in the order of the outputs.
        config: None is `LossConfig()`.
        train_labels: those of the training split, per task `(N,)` or `(N, C)`, NaN where unlabelled; balanced class
            weights are counted on them.

    Raises:
        UsageError: see `check_loss`; or balanced class weights without labels to count.
    """

    task_weights: Tensor

    def __init__(
        self, tasks: Sequence[Task], config: LossConfig | None = None, train_labels: Labels | None = None
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.config = config or LossConfig()
        check_loss(self.config, self.tasks)
        for position, task in enumerate(self.tasks):
            weights = self._class_weights(task, train_labels)
            self.register_buffer(f"class_weights_{position}", weights, persistent=False)
        self.log_variances: nn.Parameter | None = None
        if self.config.task_weights == "learned":
            self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))
        else:
            weights = torch.tensor([self.config.task_weights.get(task.name, 1.0) for task in self.tasks])
            self.register_buffer("task_weights", weights / weights.mean(), persistent=False)

    def _class_weights(self, task: Task, train_labels: Labels | None) -> Tensor | None:
        if isinstance(task, Regression) or self.config.class_weights == "none":
            return None
        if self.config.class_weights == "balanced":
            if train_labels is None:
                raise UsageError("balanced class weights are counted on the training split: give its labels")
            return torch.from_numpy(balanced_weights(task, train_labels[task.name]))
        given = self.config.class_weights.get(task.name, {})
        return torch.tensor([given.get(name, 1.0) for name in task.classes])

    def terms(
        self,
        head: FusionHead,
        output: FusionOutput,
        batch: Batch,
        present: Mapping[str, Tensor],
        totals: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """What a training step minimises the sum of.

        Args:
            head: whose objectives are asked for.
            output: what it said about the batch.
            batch: labels and positions.
            present: per modality `(B,)` bool: clips whose modality the head saw.
            totals: where the batch is a part of a larger one, the sum of what `totals` gives for the parts. Then the
                terms of the parts add up to those of the whole: exactly for losses that are means over clips, and
                with the parts' own values weighed by their clips for concordance and for what the head asks for.

        Returns:
            `"task"`, with the tasks' fixed weights; `"learned_weights"`, what learned ones change in it; one
            `"unimodal_<modality>"` each; and what the head asks for, under its own names.
        """
        everyone = torch.ones_like(batch.index, dtype=torch.bool)
        losses = self.task_losses(output.prediction, batch.labels, everyone, totals["task"] if totals else None)
        share = 1.0 if totals is None else len(batch.index) / totals["clips"]
        terms = {"task": self._weigh(losses)}
        if self.log_variances is not None:
            terms["learned_weights"] = self._uncertainty(losses, share) - terms["task"]
        terms.update(self.unimodal_terms(output, batch.labels, present, totals))
        if self.config.head_weight:
            target = target_matrix(self.tasks, batch.labels)
            own = {**output.losses, **head.target_losses(output, target, batch.index)}
            terms.update({key: self.config.head_weight * share * loss for key, loss in own.items()})
        return terms

    def totals(self, labels: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the terms of a batch are divided by; adds up over the parts of a larger batch.

        Args:
            labels: per task `(B,)` or `(B, C)`, NaN where unlabelled.
            present: per modality `(B,)` bool.

        Returns:
            `"task"` and one `"unimodal_<modality>"` each, `(tasks,)` (see `counts`), and `"clips"`, a scalar.
        """
        clips = next(iter(labels.values()))
        everyone = torch.ones(len(clips), dtype=torch.bool, device=clips.device)
        totals = {"task": self.counts(labels, everyone), "clips": everyone.sum()}
        return totals | {f"unimodal_{key}": self.counts(labels, seen) for key, seen in present.items()}

    def unimodal_terms(
        self,
        output: FusionOutput,
        labels: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        totals: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Each modality's own prediction against the clip's label, over the clips whose modality the head saw."""
        if not output.unimodal or not self.config.unimodal_weight:
            return {}
        scale, terms = self.config.unimodal_weight / len(output.unimodal), {}
        for key, value in output.unimodal.items():
            name = f"unimodal_{key}"
            losses = self.task_losses(value, labels, present[key], totals[name] if totals else None)
            terms[name] = scale * self._weigh(losses)
        return terms

    def task_loss(self, prediction: Tensor, labels: Mapping[str, Tensor], keep: Tensor) -> Tensor:
        """The tasks' losses, averaged with their fixed weights; what selection and early stopping look at.

        Args:
            prediction: `(B, O)`.
            labels: per task `(B,)` or `(B, C)`, NaN where unlabelled.
            keep: `(B,)` bool: clips that count.

        Returns:
            A scalar; zero when no clip counts.
        """
        return self._weigh(self.task_losses(prediction, labels, keep))

    def task_losses(
        self, prediction: Tensor, labels: Mapping[str, Tensor], keep: Tensor, totals: Tensor | None = None
    ) -> Tensor:
        """`(tasks,)`: the loss of each, a mean over its labelled clips.

        Args:
            prediction: `(B, O)`.
            labels: per task `(B,)` or `(B, C)`, NaN where unlabelled.
            keep: `(B,)` bool: clips that count.
            totals: `(tasks,)`, what sums are divided by; None is `counts` of these clips.
        """
        parts = split_outputs(self.tasks, prediction)
        sums = [self._sum(i, parts[task.name], labels[task.name], keep) for i, task in enumerate(self.tasks)]
        totals = self.counts(labels, keep) if totals is None else totals
        return torch.stack(sums) / torch.where(totals > 0, totals, 1.0)

    def counts(self, labels: Mapping[str, Tensor], keep: Tensor) -> Tensor:
        """`(tasks,)` float: the labelled clips of each task, or the sum of their classes' weights."""
        counts = []
        for position, task in enumerate(self.tasks):
            known = _known(labels[task.name], keep)
            weights = self._weights_of(position)
            if isinstance(task, Classification) and weights is not None:
                counts.append((weights[_safe(labels[task.name], known).long()] * known).sum())
            else:
                counts.append(known.sum().float())
        return torch.stack(counts)

    def _weights_of(self, position: int) -> Tensor | None:
        weights: Tensor | None = getattr(self, f"class_weights_{position}")
        return weights

    def _sum(self, position: int, part: Tensor, label: Tensor, keep: Tensor) -> Tensor:
        """The loss of a task, summed over its labelled clips."""
        task, weights, known = self.tasks[position], self._weights_of(position), _known(label, keep)
        safe = _safe(label, known)
        if isinstance(task, Classification):
            each = classification_losses(self.config, part, safe.long(), weights)
        elif isinstance(task, MultiLabel):
            each = multi_label_losses(self.config, part, safe, weights)
        elif self.config.regression == "ccc":
            return known.sum() * discordance(part[:, 0], safe, known)
        else:
            each = regression_losses(self.config, part[:, 0], safe, (task.high - task.low) / 2)
        return (each * known).sum()

    def learned_weights(self) -> dict[str, float]:
        """By task, the factor that its loss is multiplied with as learned so far; empty where weights are fixed."""
        if self.log_variances is None:
            return {}
        factors = self._factors().tolist()
        return {task.name: factor for task, factor in zip(self.tasks, factors, strict=True)}

    def _weigh(self, losses: Tensor) -> Tensor:
        return losses.mean() if self.log_variances is not None else (losses * self.task_weights).mean()

    def _factors(self) -> Tensor:
        assert self.log_variances is not None
        kinds = [self.config.regression if isinstance(task, Regression) else "" for task in self.tasks]
        scales = torch.tensor([SCALES.get(kind, (1.0, 1.0)) for kind in kinds]).to(self.log_variances)
        return scales[:, 0] * torch.exp(-scales[:, 1] * self.log_variances)

    def _uncertainty(self, losses: Tensor, share: float | Tensor) -> Tensor:
        """Losses divided by a learned variance each, whose logarithm keeps it from growing without end.

        Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
        Semantics", CVPR 2018, eq. 7-10. Deviations: a mean over tasks where the paper has a sum; L1 is taken as a
        Laplacian's likelihood; Huber's loss and concordance, which are none, are scaled as cross-entropy is.
        """
        assert self.log_variances is not None
        return (self._factors() * losses + share * self.log_variances / 2).mean()


def balanced_weights(task: Classification | MultiLabel, label: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """`(C,)` weights that make the classes of a training split count alike.

    For classification, clips / (classes that occur · clips of the class), as scikit-learn's `"balanced"`; for several
    classes at once, clips without the class / clips with it. A class that never occurs, or always, weighs 1.

    Args:
        task: whose classes.
        label: `(N,)` or `(N, C)`, NaN where unlabelled.
    """
    known = label[~np.isnan(label).reshape(len(label), -1).any(axis=1)]
    if isinstance(task, Classification):
        counts = np.bincount(known.astype(int), minlength=task.output_dim)
        balanced = len(known) / (max((counts > 0).sum(), 1) * np.maximum(counts, 1))
        return np.where(counts > 0, balanced, 1.0).astype(np.float32)
    having = known.sum(axis=0)
    lacking = len(known) - having
    return np.where((having > 0) & (lacking > 0), lacking / np.maximum(having, 1), 1.0).astype(np.float32)


def _known(label: Tensor, keep: Tensor) -> Tensor:
    """`(B,)` bool: clips that count and have a label."""
    missing = label.isnan()
    return keep & ~(missing if label.dim() == 1 else missing.any(dim=1))


def _safe(label: Tensor, known: Tensor) -> Tensor:
    """The labels, 0 where unknown."""
    return label.masked_fill(~(known if label.dim() == 1 else known.unsqueeze(1)), 0.0)


def regression_losses(config: LossConfig, prediction: Tensor, target: Tensor, half: float) -> Tensor:
    """`(B,)`: absolute, squared or Huber's error, in units of `half`.

    Args:
        config: which.
        prediction: `(B,)`.
        target: `(B,)`.
        half: half of the task's range.
    """
    error = (prediction - target).abs() / half
    if config.regression == "l1":
        return error
    if config.regression == "mse":
        return error.square()
    delta = config.huber_delta
    return torch.where(error <= delta, error.square() / 2, delta * (error - delta / 2))


def discordance(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """1 - Lin's concordance of the known clips (see `mmsa.metrics.concordance`); 1 where one side is constant.

    A single clip has no concordance: its loss is 1, without a gradient.

    Args:
        prediction: `(B,)`.
        target: `(B,)`.
        known: `(B,)` bool.
    """
    count = known.sum().clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        return (values * known).sum() / count

    apart = mean(prediction) - mean(target)
    from_prediction, from_target = prediction - mean(prediction), target - mean(target)
    spread = mean(from_prediction.square()) + mean(from_target.square()) + apart.square()
    return 1 - 2 * mean(from_prediction * from_target) / spread.clamp(min=torch.finfo(spread.dtype).tiny)


def classification_losses(config: LossConfig, logits: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """`(B,)`: cross-entropy or focal loss, times the weights of the classes.

    Focal: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4, over a softmax.

    Args:
        config: which, and the label smoothing.
        logits: `(B, C)`.
        target: `(B,)` class indices.
        weights: `(C,)`, or None.
    """
    smoothing = config.label_smoothing
    if config.classification == "cross_entropy":
        return nn.functional.cross_entropy(logits, target, weights, reduction="none", label_smoothing=smoothing)
    log_share = logits.log_softmax(dim=1)
    wanted = nn.functional.one_hot(target, logits.shape[1]).to(logits.dtype)
    wanted = wanted * (1 - smoothing) + smoothing / logits.shape[1]
    # Clamped, since the slope of x ** gamma is infinite at 0 for gamma < 1.
    doubt = (1 - log_share.exp()).clamp(min=torch.finfo(logits.dtype).eps) ** config.focal_gamma
    each = -wanted * doubt * log_share
    return (each if weights is None else each * weights).sum(dim=1)


def multi_label_losses(config: LossConfig, logits: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """`(B,)`: binary cross-entropy or focal loss of each class, a mean over classes.

    Args:
        config: which, and the label smoothing, which moves targets towards one half.
        logits: `(B, C)`.
        target: `(B, C)` ones and zeros.
        weights: `(C,)`, of a class's presence, or None.
    """
    wanted = target * (1 - config.label_smoothing) + config.label_smoothing / 2
    surprise, relief = nn.functional.softplus(-logits), nn.functional.softplus(logits)  # -log p and -log (1 - p)
    present, absent = wanted * surprise, (1 - wanted) * relief
    if config.classification == "focal":
        present = present * (-config.focal_gamma * relief).exp()
        absent = absent * (-config.focal_gamma * surprise).exp()
    return ((present if weights is None else present * weights) + absent).mean(dim=1)
