"""What is wrong with a training, found by looking: numbers that are not finite, overfitting, what goes unused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from mmsa.data import SplitData
from mmsa.errors import UsageError
from mmsa.evaluation import Predictions, predict
from mmsa.model import readable
from mmsa.sharing import whole_tensor
from mmsa.steps import clips_not_finite
from mmsa.tasks import Classification, Regression, Task

if TYPE_CHECKING:
    from fusion import FusionOutput
    from mmsa.model import MultimodalModel
    from mmsa.training import History

Index = NDArray[np.int64]

DEAD = 0.01
"""A modality goes unused where swapping it between clips moves predictions by less than this share of their spread."""

CONSTANT = 0.01
"""Scores are constant where they spread by less than this share of the labels' spread."""

OVERFIT_EPOCHS = 3
OVERFIT_RISE = 0.1
OVERFIT_FLOOR = 0.01
"""Overfitting: the last epochs' mean validation loss lies above the lowest by these shares of it and of the first."""

SHOWN = 3
"""How many of a list of clips or parameters a message names."""


def check_features(data: SplitData, name: str) -> None:
    """Refuse a split with features that are not finite, before they spread to every weight.

    Args:
        data: the split; every modality is read once.
        name: of the split.

    Raises:
        UsageError: names the modalities and the clips.
    """
    found = []
    for key, table in data.tables.items():
        if bool(data.moments(key).total.isfinite().all()):
            continue
        places = {int(row): clip.id for row, clip in zip(data.rows, data.clips, strict=True)}
        clips = [places[row] for row in clips_not_finite(table, data.rows)]
        found.append(f"{key} of {_few(clips, 'clip')} ({table.spec.name})")
    if found:
        raise UsageError(
            f"features of the {name} split are not finite (NaN or infinite): {'; '.join(found)}. They would "
            "spoil every weight: extract them again, leave these clips out of the corpus, or choose other modalities"
        )


def explain_not_finite(
    model: MultimodalModel, data: SplitData, parts: Sequence[Index], terms: Mapping[str, float]
) -> str:
    """Why the loss of an update or its gradient is NaN or infinite: in whose features, outputs or gradient it begins.

    Args:
        model: with the weights that the update started from, and its gradients.
        data: the training split.
        parts: positions of the clips of the update.
        terms: of its loss.
    """
    bad = {key: value for key, value in terms.items() if not np.isfinite(value)}
    if not bad:
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        names = [name for name, value in gradients.items() if not bool(whole_tensor(value).isfinite().all())]
        where = f"the gradient is not finite, although the loss is: first in {_few(names, 'weight')}"
        return f"{where}. {ADVICE}"
    said = ", ".join(f"{key} = {value:.3g}" for key, value in bad.items())
    return f"the training loss is not finite ({said}): {_where(model, data, parts)}"


ADVICE = "Updates grew too large: lower learning_rate or clip_norm, add warmup_epochs, or use precision float32"


def _where(model: MultimodalModel, data: SplitData, parts: Sequence[Index]) -> str:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for part in parts:
                batch = data.batch(part)
                for key, sequence in batch.inputs.items():
                    rows = (~sequence.values.isfinite()).flatten(1).any(dim=1)
                    if bool(rows.any()):
                        return f"the features of {key} are not, in {_clips(data, part, rows)}; extract them again"
                for key, sequence in model.encode(batch.inputs).items():
                    rows = (~sequence.values.isfinite()).flatten(1).any(dim=1)
                    if bool(rows.any()):
                        return f"what the encoder of {key} makes of it is not, in {_clips(data, part, rows)}. {ADVICE}"
                rows = _bad_rows(model(batch.inputs))
                if not bool(rows.any()):
                    continue
                alone = [key for key in batch.inputs if bool(_bad_rows(model({key: batch.inputs[key]})).any())]
                whose = f"from {' and '.join(alone)} already alone" if alone else "from all modalities together only"
                return f"the features are, the head's outputs are not: {whose}, in {_clips(data, part, rows)}. {ADVICE}"
    finally:
        model.train(was_training)
    clips = _clips(data, np.concatenate(parts), torch.ones(sum(map(len, parts)), dtype=torch.bool))
    return (
        f"features and outputs in evaluation mode are, so it begins in the losses of the batch with {clips}. {ADVICE}"
    )


def _bad_rows(output: FusionOutput) -> torch.Tensor:
    return (~output.prediction.isfinite()).any(dim=1)


def _clips(data: SplitData, part: Index, rows: torch.Tensor) -> str:
    return _few([data.clips[i].id for i in part[rows.cpu().numpy()]], "clip")


def _few(names: Iterable[str], kind: str) -> str:
    names = list(names)
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return f"the {kind}{'s' if len(names) > 1 else ''} {shown}"


@dataclass(frozen=True)
class Findings:
    """What a finished training gives reason to doubt.

    Attributes:
        warnings: sentences.
        measures: `"diagnostics/<name>"`, what they were judged by.
    """

    warnings: tuple[str, ...]
    measures: dict[str, float]


def diagnose(
    model: MultimodalModel, valid: SplitData, tasks: Sequence[Task], history: History, *, device: torch.device
) -> Findings:
    """Look for overfitting, constant predictions and modalities that go unused.

    Args:
        model: trained, on the device.
        valid: the validation split.
        tasks: in the order of the outputs.
        history: of the training.
        device: where the model is.
    """
    whole = predict(model, valid, tasks, device=device)
    constant = [warning for task in tasks for warning in _constant(task, whole)]
    measures: dict[str, float] = {}
    dead: list[str] = []
    if len(valid.tables) > 1 and len(constant) < len(tasks):
        for key in valid.tables:
            swapped = predict(model, valid.permuted(key, np.random.default_rng(0)), tasks, device=device)
            others = predict(model, valid, tasks, device=device, modalities=set(valid.tables) - {key})
            moved = _change(tasks, whole, swapped)
            measures[f"diagnostics/permuted_{key}"] = moved
            measures[f"diagnostics/removed_{key}"] = _change(tasks, whole, others)
            measures[f"diagnostics/loss_without_{key}"] = others.loss - whole.loss
            if moved < DEAD:
                dead.append(
                    f"{key} goes unused: giving every validation clip another clip's {key} moves the predictions by "
                    f"{moved:.2%} of their spread. Look at its features, or train without it"
                )
    return Findings((*overfitting(history), *constant, *dead), measures)


def overfitting(history: History) -> list[str]:
    """A warning where the training loss went on falling while the validation loss rose."""
    losses = [epoch.valid_loss for epoch in history.epochs]
    lowest = min(range(len(losses)), key=losses.__getitem__)
    last = history.epochs[-1]
    if len(losses) - 1 - lowest < OVERFIT_EPOCHS:
        return []
    rise = float(np.mean(losses[-OVERFIT_EPOCHS:])) - losses[lowest]
    fall = history.epochs[lowest].parts["task"] - last.parts["task"]
    if fall <= 0 or rise < OVERFIT_RISE * losses[lowest] or rise < OVERFIT_FLOOR * losses[0]:
        return []
    return [
        f"overfitting: from epoch {lowest + 1} to {last.number} the validation loss rose from {losses[lowest]:.3g} to "
        f"{last.valid_loss:.3g} while the training loss fell from {history.epochs[lowest].parts['task']:.3g} to "
        f"{last.parts['task']:.3g}; kept was epoch {history.best}. A smaller head, more dropout, weight_decay or "
        "modality_dropout may help"
    ]


def _constant(task: Task, found: Predictions) -> list[str]:
    """A warning where a task's prediction is the same for every clip that has a label."""
    label = found.labels[task.name]
    known = ~np.isnan(label).reshape(len(label), -1).any(axis=1)
    output, label = found.outputs[task.name][known], label[known]
    if isinstance(task, Regression):
        if len(label) < 2 or output.std() >= CONSTANT * label.std():
            return []
        said = (
            f"{output.mean():.3g} on average, give or take {output.std():.1g}, where labels spread by {label.std():.3g}"
        )
    elif isinstance(task, Classification):
        guesses = set(output.argmax(axis=1))
        if len(set(label)) < 2 or len(guesses) > 1:
            return []
        said = f"always {task.classes[guesses.pop()]}, where there are {len(set(label))} classes"
    else:
        guesses = {tuple(row) for row in output > 0}
        if len({tuple(row) for row in label}) < 2 or len(guesses) > 1:
            return []
        held = [name for name, holds in zip(task.classes, guesses.pop(), strict=True) if holds]
        said = f"always {', '.join(held) or 'no class'}"
    return [f"the prediction of {task.name} is constant on the validation split: {said}"]


def _change(tasks: Sequence[Task], before: Predictions, after: Predictions) -> float:
    """How far predictions moved on average, in units of their spread over clips; of the output that moved most."""
    first, second = (
        readable(tasks, torch.cat([torch.from_numpy(found.outputs[task.name]) for task in tasks], dim=1)).double()
        for found in (before, after)
    )
    spread = first.std(dim=0, correction=0)
    moved = (first - second).abs().mean(dim=0)
    return float((moved / spread.clamp(min=1e-9)).max())
