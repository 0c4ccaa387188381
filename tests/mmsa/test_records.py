from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmsa.bundle import load_bundle
from mmsa.corpora import load_corpus
from mmsa.evaluation import Predictions
from mmsa.metrics import compute_metrics
from mmsa.records import epoch_metrics, note_tag, result_metrics, warning_tag, write_predictions
from mmsa.tasks import Classification, MultiLabel, Regression
from mmsa.tracking import client
from mmsa.training import Epoch

if TYPE_CHECKING:
    from conftest import Trained


def artifacts(run_id: str) -> Path:
    uri: str = client().get_run(run_id).info.artifact_uri
    return Path(uri.removeprefix("file://"))


def test_metrics_can_be_computed_again_from_the_predictions(trained: Trained) -> None:
    with (artifacts(trained.run.id) / "predictions_test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    corpus = load_corpus("small", trained.root)
    assert [row["clip"] for row in rows] == [clip.id for clip in corpus.split("test")]
    for task in corpus.tasks:
        names = task.classes if isinstance(task, Classification) else ("prediction",)
        outputs = np.array([[float(row[f"{task.name}.{name}"]) for name in names] for row in rows])
        labels = np.array([json.loads(row[f"{task.name}.label"]) for row in rows], float)
        for key, value in compute_metrics(task, outputs, labels).items():
            assert trained.run.test_metrics[f"{task.name}.{key}"] == pytest.approx(value, abs=1e-6)


def test_the_bundle_knows_how_long_training_clips_are(trained: Trained) -> None:
    """Sixteen clips: six of 0.2 s, five of 0.3 s, five of 0.4 s."""
    assert load_bundle(trained.run.bundle).clip_seconds == pytest.approx((0.2, 0.3, 0.4))


def test_the_calibration_is_judged_on_the_test_split(trained: Trained) -> None:
    """By hand from the written outputs: mean negative log-likelihood at the bundle's temperature, and at 1."""
    with (artifacts(trained.run.id) / "predictions_test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    logits = np.array([[float(row[f"emotion.{name}"]) for name in ("low", "high")] for row in rows])
    labels = np.array([int(float(row["emotion.label"])) for row in rows])
    fitted = load_bundle(trained.run.bundle).calibration
    assert fitted is not None
    logged = client().get_run(trained.run.id).data.metrics
    for key, heat in (("test/emotion.nll", fitted.temperatures["emotion"]), ("test/emotion.nll_raw", 1.0)):
        scaled = logits / heat
        losses = np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(rows)), labels]
        assert logged[key] == pytest.approx(losses.mean(), abs=1e-5)
    assert "test/sentiment.coverage_90" not in logged  # eight validation clips are too few for an interval


def test_every_kind_of_label_is_json(tmp_path: Path) -> None:
    tasks = (
        Regression("sentiment", -3, 3),
        Classification("emotion", ("calm", "glad")),
        MultiLabel("moods", ("a", "b")),
    )
    nan = math.nan
    predictions = Predictions(
        clips=("x", "y"),
        outputs={"sentiment": np.array([[0.5], [1]]), "emotion": np.array([[1, 2], [3, 4]]), "moods": np.eye(2)},
        labels={
            "sentiment": np.array([0.25, nan]),
            "emotion": np.array([1.0, nan]),
            "moods": np.array([[0.0, 1.0], [nan, nan]]),
        },
        loss=0.0,
        weights={},
    )
    write_predictions(tmp_path / "out.csv", tasks, predictions)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert [json.loads(first[f"{task.name}.label"]) for task in tasks] == [0.25, 1.0, [0, 1]]
    assert all(math.isnan(json.loads(second[f"{task.name}.label"])) for task in tasks)
    assert [float(second[key]) for key in ("sentiment.prediction", "emotion.glad", "moods.b")] == [1, 4, 1]


def test_metrics_are_named_by_where_they_are_from() -> None:
    epoch = Epoch(3, 0.5, 0.75, {"sentiment.mae": 1.0}, {"task": 0.25}, {"padding": 0.125})
    assert epoch_metrics(epoch) == {
        "train/loss": 0.5,
        "valid/loss": 0.75,
        "train/task": 0.25,
        "valid/sentiment.mae": 1.0,
        "engine/padding": 0.125,
    }
    found = result_metrics({"audio": {"s.mae": 2.0}, "audio+text": {"s.mae": 1.0}}, "audio+text")
    assert found == {"test/s.mae": 1.0, "test-audio/s.mae": 2.0, "test-audio-text/s.mae": 1.0}


def test_without_notes_there_are_no_tags() -> None:
    assert note_tag([]) == warning_tag([]) == {}
    assert note_tag(["a", "b"]) == {"mlflow.note.content": "a\n\nb"}
    assert warning_tag(["a", "b"]) == {"mmsa.warnings": "a\nb"}
