from __future__ import annotations

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
from mmsa.runs import train, train_seeds
from mmsa.scoring import Scorer
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
    assert (params["loss.regression"], params["loss.unimodal_weight"]) == ("l1", "0.3")
    assert (params["clips.train"], params["clips.valid"], params["clips.test"]) == ("16", "8", "7")
    model = load_bundle(run.bundle).model
    assert params["parameters"] == str(sum(p.numel() for p in model.parameters()))
    assert json.loads(params["extractor.audio"])["name"] == "small_extractors:Loudness"


def test_every_epoch_is_logged(trained: Trained) -> None:
    engine = ("learning_rate", "gradient_norm", "seconds", "clips_per_second", "padding")
    curves = ("train/loss", "train/task", "valid/loss", "valid/sentiment.mae", "valid/emotion.accuracy")
    for key in (*curves, *(f"engine/{name}" for name in engine)):
        history = client().get_metric_history(trained.run.id, key)
        assert [metric.step for metric in history] == list(range(1, trained.run.epochs + 1)), key
    losses = [metric.value for metric in client().get_metric_history(trained.run.id, "valid/loss")]
    assert trained.run.best_epoch == 1 + int(np.argmin(losses))


def test_the_separable_corpus_was_learned(trained: Trained) -> None:
    assert trained.run.test_metrics["emotion.accuracy"] == 1.0
    assert trained.run.test_metrics["sentiment.mae"] < 0.25


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
    assert small.CALLS["audio"] <= 31  # both seeds share the features


def test_what_gives_reason_to_doubt_is_told_everywhere(untrained: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a threshold that no modality reaches, all go unused."""
    monkeypatch.setattr("mmsa.diagnostics.DEAD", 1e9)
    seen: list[Any] = []
    run = train(changed(untrained, epochs=2), on_start=lambda *told: seen.append(told))
    assert seen == [(run.id, 0)]
    found = client().get_run(run.id).data.tags
    told = [warning for warning in run.warnings if "goes unused" in warning]
    assert [warning.split()[0] for warning in told] == ["audio", "text"]
    assert set(told) <= set(run.notes)
    for warning in told:
        assert warning in found["mmsa.warnings"]
        assert warning in found["mlflow.note.content"]
    assert "A corpus of tones." in found["mlflow.note.content"]


def test_a_sound_run_measures_what_each_modality_is_good_for(trained: Trained) -> None:
    found = client().get_run(trained.run.id).data
    assert trained.run.warnings == ()
    assert "mmsa.warnings" not in found.tags
    for key in ("audio", "text"):
        assert found.metrics[f"diagnostics/permuted_{key}"] > 0.01


def test_a_finished_run_leaves_no_checkpoint(trained: Trained) -> None:
    assert not list((trained.workspace / "mlruns" / "checkpoints").iterdir())


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


@pytest.fixture
def table(workspace: Path) -> TrainConfig:
    """A corpus that every process can open: a table of sentences, read with the extractor that needs no download."""
    rows = ["id,split,transcript,sentiment"]
    for split, count in (("train", 12), ("valid", 6), ("test", 6)):
        rows += [f"{split}{i},{split},{('awful', 'wonderful')[i % 2]} day {i},{i % 2 * 2 - 1}" for i in range(count)]
    path = workspace / "sentences.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    path.with_suffix(".yaml").write_text("tasks: {sentiment: {kind: regression, low: -1, high: 1}}\n", encoding="utf-8")
    settings: dict[str, Any] = {"corpus": str(path), "modalities": ["text"], "epochs": 2, "device": "cpu", "jobs": 1}
    return TrainConfig.model_validate({**settings, "head": {"hidden_dim": 4}, "batch_size": 4})


@pytest.mark.slow
def test_seeds_side_by_side_equal_seeds_one_after_the_other(table: TrainConfig) -> None:
    """And two processes that write one SQLite store lose nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = {run.seed: run for run in train_seeds(table, (1, 2, 3))}
    finally:
        torch.set_num_threads(threads)
    two = {run.seed: run for run in train_seeds(table, (1, 2, 3), processes=2)}
    assert set(two) == {1, 2, 3}
    for seed, run in two.items():
        assert run.metrics == one[seed].metrics
        assert run.id != one[seed].id
        found = client().get_run(run.id)
        assert found.info.status == "FINISHED"
        assert found.data.metrics["best_epoch"] == run.best_epoch
        assert len(client().get_metric_history(run.id, "valid/loss")) == run.epochs
        assert load_bundle(run.bundle).model is not None


def test_a_seed_that_fails_does_not_stop_the_others(table: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def some_fail(function: Any, seeds: Any, *, processes: int) -> Any:
        yield 1, UsageError("seed 1 failed")
        yield 2, "the run of seed 2"

    monkeypatch.setattr("mmsa.many.run_many", some_fail)
    runs = train_seeds(table, (1, 2), processes=2)
    assert next(runs) == "the run of seed 2"
    with pytest.raises(UsageError, match="seed 1 failed"):
        next(runs)
