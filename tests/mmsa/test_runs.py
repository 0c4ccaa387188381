from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from mmsa.bundle import load_bundle
from mmsa.config import TrainConfig
from mmsa.corpora import load_corpus
from mmsa.errors import UsageError
from mmsa.metrics import compute_metrics
from mmsa.runs import choose_device, model_config, open_workshop, train, train_seeds
from mmsa.scoring import Scorer
from mmsa.tasks import Classification
from mmsa.tracking import client

if TYPE_CHECKING:
    from conftest import Trained


def changed(config: TrainConfig, **values: Any) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **values})


def artifacts(run_id: str) -> Path:
    uri: str = client().get_run(run_id).info.artifact_uri
    return Path(uri.removeprefix("file://"))


def test_the_run_is_in_mlflow_with_what_it_returned(trained: Trained) -> None:
    run = trained.run
    found = client().get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "late-audio+text-seed1"
    assert found.data.tags["mmsa.modalities"] == "audio+text"
    assert "A corpus of tones." in found.data.tags["mlflow.note.content"]
    for subset, metrics in run.metrics.items():
        for key, value in metrics.items():
            assert found.data.metrics[f"test-{subset.replace('+', '-')}/{key}"] == pytest.approx(value)
    assert found.data.metrics["test/sentiment.mae"] == pytest.approx(run.test_metrics["sentiment.mae"])
    assert found.data.metrics["best_epoch"] == run.best_epoch
    params = found.data.params
    assert (params["epochs"], params["head.hidden_dim"], params["seed"]) == ("12", "6", "1")
    assert (params["clips.train"], params["clips.valid"], params["clips.test"]) == ("16", "8", "7")
    model = load_bundle(run.bundle).model
    assert params["parameters"] == str(sum(p.numel() for p in model.parameters()))
    assert json.loads(params["extractor.audio"])["name"] == "small_extractors:Loudness"


def test_every_epoch_is_logged(trained: Trained) -> None:
    for key in ("train/loss", "train/task", "valid/loss", "valid/sentiment.mae", "valid/emotion.accuracy"):
        history = client().get_metric_history(trained.run.id, key)
        assert [metric.step for metric in history] == list(range(1, trained.run.epochs + 1)), key
    losses = [metric.value for metric in client().get_metric_history(trained.run.id, "valid/loss")]
    assert trained.run.best_epoch == 1 + int(np.argmin(losses))


def test_the_separable_corpus_was_learned(trained: Trained) -> None:
    assert trained.run.test_metrics["emotion.accuracy"] == 1.0
    assert trained.run.test_metrics["sentiment.mae"] < 0.25


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


def test_what_a_reader_must_know_is_noted(trained: Trained) -> None:
    assert trained.run.notes == (
        "A corpus of tones.",
        "1 of 31 clips lack audio (1 × silent)",
        "2 of 31 clips lack text (2 × no transcript)",
    )


def test_the_run_leaves_bundle_pictures_and_configuration(trained: Trained) -> None:
    folder = artifacts(trained.run.id)
    assert trained.run.bundle == folder / "bundle"
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == [
        "emotion.png",
        "learning_curves.png",
        "sentiment.png",
    ]
    assert TrainConfig.model_validate_json((folder / "config.json").read_text(encoding="utf-8")) == trained.config
    bundle = load_bundle(trained.run.bundle)
    assert bundle.note == "A corpus of tones."
    assert [task.name for task in bundle.tasks] == ["sentiment", "emotion"]


def test_metrics_come_for_every_subset(trained: Trained) -> None:
    assert list(trained.run.metrics) == ["audio", "text", "audio+text"]
    assert trained.run.weights["audio"] + trained.run.weights["text"] == pytest.approx(1.0)


def test_training_again_gives_the_same_numbers_and_another_seed_others(
    trained: Trained, untrained: TrainConfig, small: Any
) -> None:
    first, second = train_seeds(untrained, (1, 2))
    assert (first.seed, second.seed) == (1, 2)
    assert first.metrics == trained.run.metrics
    assert second.metrics != first.metrics
    assert first.id != second.id
    assert small.CALLS["audio"] == 31  # both seeds share the features


def test_tasks_can_be_chosen(untrained: TrainConfig) -> None:
    run = train(changed(untrained, tasks=("emotion",), epochs=1))
    assert {key.split(".")[0] for key in run.test_metrics} == {"emotion"}
    assert load_bundle(run.bundle).model.config.output_dim == 2


def test_a_failing_training_leaves_a_failed_run(untrained: TrainConfig) -> None:
    def stop(_: object) -> None:
        raise RuntimeError("the epoch line broke")

    with pytest.raises(RuntimeError, match="the epoch line broke"):
        train(untrained, on_epoch=stop)
    (experiment,) = [e for e in client().search_experiments() if e.name == "mmsa-small"]
    (run,) = client().search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"


def test_the_bundle_knows_what_the_model_says_on_average(trained: Trained) -> None:
    """Over the training split, one clip at a time from its file, as people read it."""
    scorer = Scorer(load_bundle(trained.run.bundle), trust_extractors=True)
    rows = []
    for clip in load_corpus("small", trained.root).split("train"):
        assert clip.media is not None
        found = scorer.score(clip.media, text=clip.transcript or "")
        rows.append([found.scores["sentiment"].value or 0.0, *found.scores["emotion"].probabilities.values()])
    assert np.abs(rows).max() < 1  # none was clipped
    assert scorer.bundle.baseline == pytest.approx(np.mean(rows, axis=0), abs=1e-5)


def test_heads_with_pseudo_labels_are_told_which_outputs_are_scores(untrained: TrainConfig) -> None:
    shop = open_workshop(changed(untrained, tasks=("emotion", "sentiment")))
    options = model_config(changed(untrained, fusion="self_mm"), shop).head_options
    assert options == {"label_columns": [2], "label_range": 1.0, "hidden_dim": 6}
    assert model_config(untrained, shop).head_options == {"hidden_dim": 6}
    given = changed(untrained, fusion="self_mm", head={"label_range": 2.0})
    assert model_config(given, shop).head_options == {"label_columns": [2], "label_range": 2.0}


def test_options_are_judged_by_the_sizes_of_the_corpus(untrained: TrainConfig) -> None:
    """Emotion has two outputs and sentiment one: output 2 is there, output 3 is not."""
    config = changed(untrained, fusion="self_mm", tasks=("emotion", "sentiment"))
    run = next(train_seeds(changed(config, head={"hidden_dim": 4, "label_columns": [2]}), (1,)))
    assert run.head == "self_mm"
    with pytest.raises(UsageError, match=r"label_columns must be different outputs in 0\.\.2, not \(3,\)"):
        open_workshop(changed(config, head={"hidden_dim": 4, "label_columns": [3]}))


class TestRefusals:
    """What cannot be done is said before anything is extracted, and leaves no run."""

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"fusion": "lat"}, "no fusion head is called 'lat'. Did you mean 'late'"),
            ({"corpus": "smal", "root": None}, "there is no corpus 'smal'. Did you mean 'small'"),
            ({"tasks": ("sentimant",)}, "no task of the corpus small 'sentimant'. Did you mean 'sentiment'"),
            ({"modalities": ("eeg",)}, "no extractor is configured for the modality 'eeg'"),
            ({"extractors": {"text": {"name": "text.lexicl"}}}, "text.lexicl.*text.lexical"),
            (
                {"extractors": {"text": {"name": "small_extractors:Loudness"}}},
                "small_extractors:Loudness makes audio, not text",
            ),
            (
                {"extractors": {"text": {"name": "small_extractors:WordLengths", "parameters": {"size": 3}}}},
                "small_extractors:WordLengths.*'size'",
            ),
        ],
        ids=str,
    )
    def test_before_any_work(self, untrained: TrainConfig, small: Any, values: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            train(changed(untrained, **values))
        assert not small.CALLS
        assert [e.name for e in client().search_experiments()] == ["Default"]

    def test_a_corpus_without_a_validation_split(self, untrained: TrainConfig, small: Any, tmp_path: Path) -> None:
        assert untrained.root is not None
        for path in untrained.root.glob("t*-*.*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        with pytest.raises(
            UsageError, match="the corpus small has no valid split: training needs train, valid and test"
        ):
            open_workshop(changed(untrained, root=tmp_path))
        assert not small.CALLS

    def test_cuda_where_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(UsageError, match="device 'cuda' was asked for, but torch sees none"):
            choose_device("cuda")
        assert choose_device("auto") == torch.device("cpu")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert choose_device("auto") == torch.device("cuda")
        assert choose_device("cpu") == torch.device("cpu")
