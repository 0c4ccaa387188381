from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmsa.corpora.clip import Corpus
from mmsa.data import SplitData
from mmsa.evaluation import Predictions, modality_subsets, predict, write_per_class
from mmsa.features import FeatureTable
from mmsa.loss_config import LossConfig
from mmsa.losses import Objective
from mmsa.metrics import compute_metrics
from mmsa.model import ModelConfig, MultimodalModel
from mmsa.tasks import Classification, MultiLabel, Regression

SENTIMENT = Regression("sentiment", -3, 3, "mosi")
EMOTION = Classification("emotion", ("calm", "glad"))
TASKS = (SENTIMENT, EMOTION)
CPU = torch.device("cpu")


@pytest.fixture
def model() -> MultimodalModel:
    torch.manual_seed(0)
    return MultimodalModel(ModelConfig("late", {"audio": 1, "text": 2}, 3, {"hidden_dim": 4}))


@pytest.fixture
def data(make_corpus: Callable[..., Corpus], make_table: Callable[..., FeatureTable]) -> SplitData:
    """Seven test clips among others; ragged, some without sound, some without a label."""
    random = np.random.default_rng(1)
    splits = ["test", "train"] * 7
    labels = [{"sentiment": float(i % 5 - 2), "emotion": EMOTION.classes[i % 3 % 2]} for i in range(14)]
    labels[2], labels[4] = {"emotion": "calm"}, {}
    tables = {
        "text": make_table("text", [random.normal(size=(1 + i % 4, 2)) for i in range(14)]),
        "audio": make_table("audio", [random.normal(size=(i % 6, 1)) for i in range(14)]),
    }
    return SplitData(make_corpus(TASKS, splits, labels), tables, "test", TASKS)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_predictions_do_not_depend_on_the_batches(model: MultimodalModel, data: SplitData, size: int) -> None:
    found = predict(model, data, TASKS, device=CPU, batch_size=size)
    assert found.clips == tuple(str(i) for i in range(0, 14, 2))
    for row in range(len(data)):
        alone = model(data.batch(np.array([row])).inputs).prediction[0].detach().numpy()
        np.testing.assert_allclose(found.outputs["sentiment"][row], alone[:1], atol=1e-6)
        np.testing.assert_allclose(found.outputs["emotion"][row], alone[1:], atol=1e-6)
    assert found.loss == pytest.approx(predict(model, data, TASKS, device=CPU).loss, rel=1e-5)


def test_the_loss_is_the_mean_over_labelled_clips(model: MultimodalModel, data: SplitData) -> None:
    found = predict(model, data, TASKS, device=CPU, batch_size=2)
    errors = np.abs(found.outputs["sentiment"][:, 0] - found.labels["sentiment"]) / 3
    logits, label = found.outputs["emotion"].astype(float), found.labels["emotion"]
    surprise = [np.log(np.exp(row).sum()) - row[int(k)] for row, k in zip(logits, label, strict=True) if k == k]
    assert np.isnan(errors).sum() == 2
    assert len(surprise) == 6
    assert found.loss == pytest.approx((np.nanmean(errors) + np.mean(surprise)) / 2, rel=1e-5)


def test_weights_are_kept_where_the_head_has_them(model: MultimodalModel, data: SplitData) -> None:
    found = predict(model, data, TASKS, device=CPU, batch_size=2)
    np.testing.assert_allclose(found.weights["audio"] + found.weights["text"], 1, atol=1e-6)
    silent = [i for i, clip in enumerate(found.clips) if int(clip) % 6 == 0]
    assert found.weights["audio"][silent].tolist() == [0.0] * len(silent)
    early = MultimodalModel(ModelConfig("early", {"audio": 1, "text": 2}, 3, {"hidden_dim": 4}))
    assert predict(early, data, TASKS, device=CPU).weights == {}


def test_left_out_modalities_are_missing(model: MultimodalModel, data: SplitData) -> None:
    found = predict(model, data, TASKS, device=CPU, modalities=("text",))
    assert found.weights["text"].tolist() == [1.0] * 7
    (batch,) = data.batches(64)
    alone = model({"text": batch.inputs["text"]}).prediction.detach().numpy()
    np.testing.assert_allclose(found.outputs["sentiment"], alone[:, :1], atol=1e-6)
    everything = predict(model, data, TASKS, device=CPU)
    assert not np.allclose(found.outputs["sentiment"], everything.outputs["sentiment"])


def test_prediction_leaves_dropout_off(model: MultimodalModel, data: SplitData) -> None:
    model.train()
    first, second = (predict(model, data, TASKS, device=CPU) for _ in range(2))
    np.testing.assert_array_equal(first.outputs["emotion"], second.outputs["emotion"])


def test_metrics_are_named_after_their_task() -> None:
    outputs = {
        "sentiment": np.array([[1.0], [-1.0]], np.float32),
        "emotion": np.array([[1.0, 0.0], [1.0, 0.0]], np.float32),
    }
    labels = {"sentiment": np.array([2.0, np.nan], np.float32), "emotion": np.array([0.0, 1.0], np.float32)}
    found = Predictions(("a", "b"), outputs, labels, 0.0, {}).metrics(TASKS)
    assert found["sentiment.mae"] == 1.0
    assert found["emotion.accuracy"] == 0.5
    assert set(found) == {
        *(f"sentiment.{key}" for key in compute_metrics(SENTIMENT, outputs["sentiment"], labels["sentiment"])),
        *(f"emotion.{key}" for key in ("accuracy", "weighted_f1", "macro_f1", "uar", "f1_calm", "f1_glad")),
    }


def test_the_loss_is_that_of_the_objective_that_is_given(model: MultimodalModel, data: SplitData) -> None:
    config = LossConfig(regression="mse", task_weights={"emotion": 0.0})
    found = predict(model, data, TASKS, device=CPU, objective=Objective(TASKS, config))
    errors = (found.outputs["sentiment"][:, 0] - found.labels["sentiment"]) ** 2 / 9
    assert found.loss == pytest.approx(np.nanmean(errors), rel=1e-5)
    assert predict(model, data, TASKS, device=CPU).loss != found.loss


class TestPerClass:
    MOODS = MultiLabel("moods", ("happy", "sad"))
    PREDICTIONS = Predictions(
        clips=("a", "b", "c"),
        outputs={
            "sentiment": np.zeros((3, 1), np.float32),
            "emotion": np.array([[1, 0], [1, 0], [0, 1]], np.float32),
            "moods": np.array([[1, -1], [2, -1], [3, 4]], np.float32),
        },
        labels={
            "sentiment": np.zeros(3, np.float32),
            "emotion": np.array([0, 1, np.nan], np.float32),
            "moods": np.array([[1, 1], [0, 0], [np.nan, np.nan]], np.float32),
        },
        loss=0.0,
        weights={},
    )

    def test_every_class_of_every_task_has_a_row(self, tmp_path: Path) -> None:
        path = tmp_path / "per_class.csv"
        write_per_class(path, (SENTIMENT, EMOTION, self.MOODS), self.PREDICTIONS)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [list(row.values())[:5] for row in rows] == [
            ["emotion", "calm", "1", "2", "1"],  # a is, a and b are said to be
            ["emotion", "glad", "1", "0", "0"],
            ["moods", "happy", "1", "2", "1"],
            ["moods", "sad", "1", "0", "0"],
        ]
        assert list(rows[0])[:5] == ["task", "name", "support", "predicted", "hits"]
        assert [float(rows[0][key]) for key in ("precision", "recall", "f1")] == pytest.approx([1 / 2, 1, 2 / 3])

    def test_without_classes_nothing_is_written(self, tmp_path: Path) -> None:
        write_per_class(tmp_path / "per_class.csv", (SENTIMENT,), self.PREDICTIONS)
        assert list(tmp_path.iterdir()) == []


@given(names=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True))
def test_subsets_are_all_there_once_smallest_first(names: list[str]) -> None:
    found = modality_subsets(names)
    assert len(found) == len(set(found)) == 2 ** len(names) - 1
    assert set(found) == set(chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1)))
    assert [len(subset) for subset in found] == sorted(len(subset) for subset in found)
    assert found[-1] == tuple(names)
