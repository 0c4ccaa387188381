"""What a run leaves in MLflow: parameters, metrics and files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsa.bundle import Bundle, library_versions
from mmsa.config import TrainConfig
from mmsa.corpora.clip import SPLITS
from mmsa.distributed import current
from mmsa.tasks import MultiLabel, Task
from mmsa.tracking import BUNDLE, Tracker

if TYPE_CHECKING:
    from mmsa.calibration import Calibration
    from mmsa.evaluation import Predictions
    from mmsa.model import MultimodalModel
    from mmsa.runs import Workshop
    from mmsa.training import Epoch, History


def run_params(config: TrainConfig, model: MultimodalModel, shop: Workshop) -> dict[str, object]:
    """Settings, extractors, sizes and versions."""
    settings = config.model_dump(exclude={"encoders", "extractors", "head", "loss", "modalities", "tasks", "words"})
    params: dict[str, object] = {**settings, "modalities": "+".join(model.config.input_dims)}
    params["tasks"] = "+".join(task.name for task in shop.tasks)
    params.update({f"loss.{key}": value for key, value in config.loss.model_dump().items()})
    params.update({f"words.{key}": value for key, value in config.words.model_dump().items()})
    params.update({f"head.{key}": value for key, value in config.head.items()})
    params.update({f"extractor.{key}": spec.to_json() for key, spec in shop.specs.items()})
    for key, own in config.encoders.items():
        params.update({f"encoder.{key}.{name}": value for name, value in own.model_dump().items()})
    params["parameters"] = sum(p.numel() for p in model.parameters())
    params["parameters.trained"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    params.update({f"clips.{split}": len(shop.corpus.split(split)) for split in SPLITS})
    params.update({f"version.{key}": value for key, value in library_versions().items()})
    return params


def epoch_metrics(epoch: Epoch) -> dict[str, float]:
    """The curves: `train/`, `valid/` and, on the training itself, `engine/`."""
    values = {"train/loss": epoch.train_loss, "valid/loss": epoch.valid_loss}
    values.update({f"train/{key}": value for key, value in epoch.parts.items()})
    values.update({f"valid/{key}": value for key, value in epoch.valid_metrics.items()})
    values.update({f"engine/{key}": value for key, value in epoch.progress.items()})
    return values


def result_metrics(metrics: Mapping[str, Mapping[str, float]], full: str) -> dict[str, float]:
    """The test split's metrics: `test/` with all modalities, `test-<modalities>/` with some.

    Args:
        metrics: by modalities at hand, joined with `"+"`.
        full: all of them.
    """
    values = {f"test/{key}": value for key, value in metrics[full].items()}
    for subset, found in metrics.items():
        values.update({f"test-{subset.replace('+', '-')}/{key}": value for key, value in found.items()})
    return values


def note_tag(notes: Sequence[str]) -> dict[str, str]:
    """The tag that MLflow shows as a run's description."""
    return {"mlflow.note.content": "\n\n".join(notes)} if notes else {}


def split_notes(history: History) -> list[str]:
    """What a reader must know of a run whose losses several processes could not make together."""
    if not history.split_losses:
        return []
    return [
        f"Trained in {current().size} processes: the head's own losses ({', '.join(history.split_losses)}) were made "
        "by each process of its own clips of a batch, not of the whole batch, so that the result is not that of one "
        "process"
    ]


def warning_tag(warnings: Sequence[str]) -> dict[str, str]:
    """The tag that runs with a warning are found by."""
    return {"mmsa.warnings": "\n".join(warnings)} if warnings else {}


def log_artifacts(
    run: Tracker,
    model: MultimodalModel,
    shop: Workshop,
    predictions: Predictions,
    history: History,
    config: TrainConfig,
    baseline: tuple[float, ...],
    calibration: Calibration,
) -> None:
    """Bundle, pictures, tables and configuration."""
    from mmsa.evaluation import write_per_class
    from mmsa.pictures import draw_all
    from mmsa.serving.flavor import write_flavor

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = Bundle(
            model.cpu(),
            shop.tasks,
            shop.specs,
            shop.corpus.name,
            shop.corpus.note,
            library_versions(),
            baseline,
            calibration,
            clip_seconds(shop),
            shop.words,
        )
        write_flavor(folder / BUNDLE, bundle)
        bundle.save(folder / BUNDLE)
        pictures = folder / "pictures"
        pictures.mkdir()
        draw_all(pictures, shop.tasks, predictions, history)
        write_predictions(folder / "predictions_test.csv", shop.tasks, predictions)
        write_per_class(folder / "per_class_test.csv", shop.tasks, predictions)
        (folder / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        run.artifacts(folder)


def clip_seconds(shop: Workshop) -> tuple[float, float, float] | None:
    """How long training clips are: 5th percentile, median and 95th; None where nothing tells.

    A clip is as long as its segment, or as the last step of its sound or picture says: words may have no times, and
    ready-made features have none.
    """
    timed = [shop.extracted[key] for key, one in shop.extractors.items() if one.modality != "text"]
    lengths = []
    for row, clip in enumerate(shop.corpus.clips):
        if clip.split != "train":
            continue
        if clip.start_seconds is not None and clip.end_seconds is not None:
            lengths.append(clip.end_seconds - clip.start_seconds)
            continue
        ends = [float(t.times[t.offsets[row + 1] - 1, 1]) for t in timed if t.offsets[row + 1] > t.offsets[row]]
        if ends:
            lengths.append(max(ends) - (clip.start_seconds or 0.0))
    if not lengths:
        return None
    low, middle, high = np.percentile(lengths, [5, 50, 95])
    return float(low), float(middle), float(high)


def write_predictions(path: Path, tasks: Sequence[Task], predictions: Predictions) -> None:
    """One row per test clip: label and outputs of every task, so that any metric can be computed again.

    A label is JSON: a number (a class by its index), a list of ones and zeros where several classes may hold, NaN
    where there is none.
    """
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        outputs = [f"{task.name}.{name}" for task in tasks for name in getattr(task, "classes", ("prediction",))]
        writer.writerow(["clip", *(f"{task.name}.label" for task in tasks), *outputs])
        for row, clip in enumerate(predictions.clips):
            labels = [_label(task, predictions.labels[task.name][row]) for task in tasks]
            values = [repr(float(v)) for task in tasks for v in predictions.outputs[task.name][row]]
            writer.writerow([clip, *labels, *values])


def _label(task: Task, label: Any) -> str:
    if isinstance(task, MultiLabel) and not np.isnan(label).any():
        return json.dumps([int(value) for value in label])
    return json.dumps(float(np.ravel(label)[0]))
