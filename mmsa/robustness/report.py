"""What an evaluation leaves on the disk: a Markdown page, tables, pictures and every prediction."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsa.robustness.curves import Curve, Point
from mmsa.tasks import Regression, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = ("mae", "corr", "weighted_f1", "wa")
"""Metrics that are drawn and printed; tables hold all."""


def headline_keys(metrics: Iterable[str]) -> list[str]:
    """The metrics to show, of those there are."""
    return [key for key in metrics if key.rsplit(".", 1)[-1] in SHOWN]


def write_predictions(
    path: Path,
    clips: Sequence[str],
    tasks: Sequence[Task],
    labels: Mapping[str, NDArray[np.float32]],
    outputs: Mapping[str, NDArray[np.float32]],
) -> None:
    """One row per clip: label and outputs of every task, so that any metric can be computed again.

    A label is a JSON number, NaN where there is none, or a JSON list where several classes may hold.
    """
    columns = [
        f"{task.name}.{name}"
        for task in tasks
        for name in (("prediction",) if isinstance(task, Regression) else task.classes)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", *(f"{task.name}.label" for task in tasks), *columns])
        for row, clip in enumerate(clips):
            values = [repr(float(value)) for task in tasks for value in outputs[task.name][row]]
            writer.writerow([clip, *(json.dumps(labels[task.name][row].tolist()) for task in tasks), *values])


def write_metrics(path: Path, subsets: Mapping[str, Mapping[str, float]], curves: Sequence[Curve]) -> None:
    """Every number in one long table: `condition, level, input, metric, value, spread`."""
    rows: list[list[object]] = []
    for subset, metrics in subsets.items():
        rows += [["subset", "", subset, key, value, ""] for key, value in metrics.items()]
    for curve in curves:
        for point in curve.points:
            level = "" if point.level is None else point.level
            for given, metrics in (("all", point.metrics), (curve.noise.modality, point.alone)):
                for key, value in metrics.items():
                    spread = point.spread.get(key, "") if given == "all" else ""
                    rows.append([curve.noise.name, level, given, key, value, spread])
        rows += [
            [curve.noise.name, "", f"without {curve.noise.modality}", key, v, ""] for key, v in curve.floor.items()
        ]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["condition", "level", "input", "metric", "value", "spread"], *rows])


def markdown(
    title: str,
    subsets: Mapping[str, Mapping[str, float]],
    curves: Sequence[Curve],
    notes: Sequence[str],
) -> str:
    """The page a person reads."""
    parts = [f"# {title}", *(f"- {note}" for note in notes)]
    full = list(subsets.values())[-1]
    keys = headline_keys(full)
    parts.append(_table(["modalities", *keys], [[name, *_cells(own, keys)] for name, own in subsets.items()]))
    for curve in curves:
        parts += [f"## {curve.noise.name}: {curve.noise.axis}", *_curve_lines(curve, keys)]
        parts.append(f"![{curve.noise.name}](curve_{curve.noise.name}.png)")
    return _joined(parts) + "\n"


def _joined(parts: Sequence[str]) -> str:
    """Blocks with an empty line between, items of a list without."""
    text = parts[0]
    for before, part in pairwise(parts):
        text += ("\n" if before.startswith("- ") and part.startswith("- ") else "\n\n") + part
    return text


def _curve_lines(curve: Curve, keys: Sequence[str]) -> list[str]:
    single = curve.noise.modality
    head = ["level", *(["realised"] if curve.is_measured else []), *keys]
    head += [f"{single} alone: {key}" for key in keys] if curve.has_alone else []
    rows = [_curve_row(curve, point, keys) for point in curve.points]
    if curve.floor:
        rows.append([f"without {single}", *([""] if curve.is_measured else []), *_cells(curve.floor, keys)])
        rows[-1] += [""] * (len(head) - len(rows[-1]))
    lines = [_table(head, rows)]
    if curve.lacking:
        lines.append(f"{_listed(curve.lacking)} never had {single} and stay as they are.")
    lost = [(point.level, set(point.without) - set(curve.lacking)) for point in curve.points]
    lines += [f"At {level:g}, {_listed(sorted(gone))} lost {single} altogether." for level, gone in lost if gone]
    return lines


def _curve_row(curve: Curve, point: Point, keys: Sequence[str]) -> list[str]:
    level = "untouched" if point.level is None else f"{point.level:g}"
    realised = ["" if point.realised is None else f"{point.realised:.3f}"] if curve.is_measured else []
    alone = _cells(point.alone, keys) if curve.has_alone else []
    return [level, *realised, *_cells(point.metrics, keys, point.spread), *alone]


def _cells(metrics: Mapping[str, float], keys: Sequence[str], spread: Mapping[str, float] | None = None) -> list[str]:
    def cell(key: str) -> str:
        if key not in metrics:
            return "–"
        return f"{metrics[key]:.3f}" + (f" ± {spread[key]:.3f}" if spread and key in spread else "")

    return [cell(key) for key in keys]


def _listed(clips: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(clips[:most]) + (f" and {len(clips) - most} more" if len(clips) > most else "")
    return f"{len(clips)} clip{'s' if len(clips) > 1 else ''} ({shown})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def draw_curve(path: Path, curve: Curve) -> None:
    """One panel per headline metric: all modalities, the damaged one alone, and what is reached without it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    keys = headline_keys(curve.points[0].metrics)
    figure = Figure(figsize=(4.6 * len(keys), 3.8), layout="constrained")  # not pyplot: no global state, no display
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        _draw_panel(axes, curve, key)
    panels[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _draw_panel(axes: Axes, curve: Curve, key: str) -> None:
    """Levels at even distances with the untouched input before them: SNR has no level for it."""
    from mmsa.metrics import direction

    names = ["untouched" if point.level is None else f"{point.level:g}" for point in curve.points]
    places = np.arange(len(names))
    fused = np.array([point.metrics.get(key, np.nan) for point in curve.points])
    axes.plot(places, fused, "o-", color="C0", label="all modalities")
    spread = np.array([point.spread.get(key, 0.0) for point in curve.points])
    if spread.any():
        axes.fill_between(places, fused - spread, fused + spread, color="C0", alpha=0.2)
    if curve.has_alone:
        alone = [point.alone.get(key, np.nan) for point in curve.points]
        axes.plot(places, alone, "s--", color="C1", label=f"{curve.noise.modality} alone")
    if key in curve.floor:
        axes.axhline(curve.floor[key], color="0.5", linestyle=":", label=f"without {curve.noise.modality}")
    axes.set_xticks(places, names, rotation=45 if len(names) > 8 else 0)
    better = {"max": "more is better", "min": "less is better"}[direction(key)]
    axes.set(title=f"{key} ({better})", xlabel=curve.noise.axis)
