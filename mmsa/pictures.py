"""Pictures of a run, as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmsa.evaluation import Predictions
from mmsa.metrics import confusion, per_class
from mmsa.tasks import Classification, MultiLabel, Regression, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mmsa.training import History


def draw_all(folder: Path, tasks: Sequence[Task], test: Predictions, history: History) -> None:
    """One picture per task on the test split, and the learning curves."""
    for task in tasks:
        path = folder / f"{task.name}.png"
        if isinstance(task, Classification):
            _save(path, partial(_confusion, task=task, test=test), size=(6.5, 5.5))
        elif isinstance(task, MultiLabel):
            _save(path, partial(_presence, task=task, test=test), size=(6.5, 1.5 + 0.5 * len(task.classes)))
        else:
            _save(path, partial(_scatter, task=task, test=test), size=(5.5, 5.5))
    _save(folder / "learning_curves.png", partial(_curves, history=history), size=(7, 4))


def _save(path: Path, draw: Callable[[Axes], None], *, size: tuple[float, float]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")  # not pyplot: no global state, no display
    FigureCanvasAgg(figure)
    draw(figure.subplots())
    figure.savefig(path, dpi=120)


def _confusion(axes: Axes, task: Classification, test: Predictions) -> None:
    counts = confusion_matrix(task, test)
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(task.classes))
    axes.set_xticks(ticks, task.classes, rotation=40, ha="right")
    axes.set_yticks(ticks, task.classes)
    for row in ticks:
        for column in ticks:
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", color=colour)
    axes.set(xlabel="predicted", ylabel="true", title=f"{task.name}, test split (clips; shade: share of the row)")


def confusion_matrix(task: Classification, test: Predictions) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """`(C, C)` counts, true class by predicted class, over labelled clips."""
    label = test.labels[task.name]
    known = ~np.isnan(label)
    return confusion(test.outputs[task.name][known].argmax(axis=1), label[known].astype(int), task.output_dim)


def _presence(axes: Axes, task: MultiLabel, test: Predictions) -> None:
    """One bar per class: clips of the class that were found, that were missed, and false alarms."""
    reports = per_class(task, test.outputs[task.name], test.labels[task.name])
    found = np.array([report.hits for report in reports])
    missed = np.array([report.support for report in reports]) - found
    false = np.array([report.predicted for report in reports]) - found
    start = np.zeros(len(reports), int)
    for name, widths, colour in (("found", found, "C0"), ("missed", missed, "0.8"), ("false alarm", false, "C3")):
        bars = axes.barh(range(len(reports)), widths, left=start, color=colour, label=name)
        axes.bar_label(bars, [str(width) if width else "" for width in widths], label_type="center")
        start += widths
    axes.set_yticks(range(len(reports)), [report.name for report in reports])
    axes.invert_yaxis()
    axes.set(xlabel="clips", title=f"{task.name}, test split")
    axes.legend()


def _scatter(axes: Axes, task: Regression, test: Predictions) -> None:
    axes.plot([task.low, task.high], [task.low, task.high], color="0.7", linewidth=1)
    axes.scatter(test.labels[task.name], test.outputs[task.name][:, 0], s=14, alpha=0.6)
    axes.set(xlabel="true", ylabel="predicted", title=f"{task.name}, test split", aspect="equal")


def _curves(axes: Axes, history: History) -> None:
    numbers = [epoch.number for epoch in history.epochs]
    axes.plot(numbers, [epoch.parts["task"] for epoch in history.epochs], label="train (task loss, dropout on)")
    axes.plot(numbers, [epoch.valid_loss for epoch in history.epochs], label="validation")
    axes.axvline(history.best, color="0.7", linestyle="--", label=f"kept: epoch {history.best}")
    axes.set(xlabel="epoch", ylabel="loss", title="learning curves")
    axes.legend()
