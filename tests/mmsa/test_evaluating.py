from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

import mmsa
from mmsa.corpora import load_corpus
from mmsa.data import CPU
from mmsa.errors import UsageError
from mmsa.evaluating import Evaluation, evaluate
from mmsa.features import load_features
from mmsa.judging import Judge
from mmsa.metrics import compute_metrics
from mmsa.robustness.missing import thin_out
from mmsa.robustness.sound import NoisyAudio
from mmsa.robustness.words import word_error_rate
from mmsa.subject import open_material, open_subject
from mmsa.tracking import client, find_bundle
from mmsa.transfer import map_tasks

if TYPE_CHECKING:
    from conftest import Trained

TRUST: dict[str, Any] = {"jobs": 1, "trust_extractors": True, "device": "cpu"}


def artifacts(run_id: str) -> Path:
    return Path(str(client().get_run(run_id).info.artifact_uri).removeprefix("file://"))


def test_the_runs_own_test_is_repeated_exactly(copied: Trained) -> None:
    """From the bundle, with features made anew: the same numbers to the last bit."""
    found = evaluate("latest", **TRUST)
    assert found.metrics == {"audio+text": copied.run.test_metrics}
    every = evaluate("latest", drop_modalities=True, **TRUST)
    assert dict(every.metrics) == copied.run.metrics
    assert found.notes[0] == "A corpus of tones."
    assert mmsa.evaluate is evaluate


def test_the_result_is_nested_in_the_run_and_is_never_the_latest(copied: Trained) -> None:
    found = evaluate("latest", drop_modalities=True, repeats=2, **TRUST)
    run = client().get_run(found.id)
    assert run.info.status == "FINISHED"
    assert run.info.experiment_id == client().get_run(copied.run.id).info.experiment_id
    assert run.data.tags["mlflow.parentRunId"] == run.data.tags["mmsa.evaluated_run"] == copied.run.id
    assert run.data.tags["mmsa"] == "evaluate"
    for subset, metrics in copied.run.metrics.items():
        for key, value in metrics.items():
            assert run.data.metrics[f"test-{subset.replace('+', '-')}/{key}"] == value
    assert run.data.metrics["test/sentiment.mae"] == copied.run.test_metrics["sentiment.mae"]
    assert found.missing is not None
    history = {m.step: m.value for m in client().get_metric_history(found.id, "missing/sentiment.mae")}
    assert history == {round(100 * (p.level or 0)): p.metrics["sentiment.mae"] for p in found.missing.points}
    assert sorted(history) == list(range(0, 101, 10))
    assert find_bundle("latest") == copied.run.bundle


def test_a_bundle_folder_is_evaluated_without_its_store(copied: Trained) -> None:
    found = evaluate(copied.run.bundle, **TRUST)
    assert found.test_metrics == copied.run.test_metrics
    run = client().get_run(found.id)
    assert "mlflow.parentRunId" not in run.data.tags
    assert client().get_experiment(run.info.experiment_id).name == "mmsa-small"
    assert found.run == str(copied.run.bundle)


def test_another_split_is_measured_on_its_own_labels(copied: Trained) -> None:
    found = evaluate("latest", split="valid", **TRUST)
    assert (found.split, found.clips) == ("valid", 8)
    logged = client().get_run(copied.run.id).data
    best = int(logged.metrics["best_epoch"])
    history = {m.step: m.value for m in client().get_metric_history(copied.run.id, "valid/sentiment.mae")}
    assert found.test_metrics["sentiment.mae"] == pytest.approx(history[best], abs=1e-6)


def test_every_metric_can_be_computed_again_from_the_predictions(copied: Trained) -> None:
    found = evaluate("latest", drop_modalities=True, repeats=1, **TRUST)
    folder = artifacts(found.id) / "predictions"
    assert sorted(path.name for path in folder.iterdir()) == ["audio+text.csv", "audio.csv", "text.csv"]
    for subset, metrics in found.metrics.items():
        with (folder / f"{subset}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for task in load_corpus("small", copied.root).tasks:
            names = getattr(task, "classes", ("prediction",))
            outputs = np.array([[float(row[f"{task.name}.{name}"]) for name in names] for row in rows], np.float32)
            labels = np.array([json.loads(row[f"{task.name}.label"]) for row in rows], np.float32)
            for key, value in compute_metrics(task, outputs, labels).items():
                assert metrics[f"{task.name}.{key}"] == pytest.approx(value, abs=1e-6)


def test_missing_modalities_are_those_that_were_drawn(copied: Trained) -> None:
    """Each clip through the model with exactly what it has left, in place of the table of subsets."""
    found = evaluate("latest", drop_modalities=True, repeats=1, seed=4, **TRUST)
    subject = open_subject("latest")
    material = open_material(subject, load_corpus("small", copied.root), "test", jobs=1, trust_extractors=True)
    maps = map_tasks(subject.bundle.tasks, material.corpus.tasks, "small")
    has = np.stack([np.diff(material.tables[key].offsets) > 0 for key in ("audio", "text")], axis=1)
    assert found.missing is not None
    for point in found.missing.points[3:8:2]:
        kept = thin_out(has, point.level or 0, seed=4, repeat=0).kept
        rows = []
        for i, clip in enumerate(material.corpus.clips):
            left = tuple(key for key, stays in zip(("audio", "text"), kept[i], strict=True) if stays)
            one = replace(material.corpus, clips=(clip,))
            tables = load_features(one, {key: material.extractors[key] for key in left}, jobs=1)
            judge = Judge(subject.bundle.model, subject.bundle.tasks, maps, one, "test", CPU)
            rows.append(judge.answer(tables, left)["sentiment"][0, 0])
        truth = [float(clip.labels["sentiment"]) for clip in material.corpus.clips]  # type: ignore[arg-type]
        assert point.metrics["sentiment.mae"] == pytest.approx(np.abs(np.array(rows) - truth).mean(), abs=1e-5)


class TestNoise:
    def test_features_are_made_of_the_damaged_media(self, copied: Trained) -> None:
        """The point's metrics, from the wrapped extractor by hand."""
        found = evaluate("latest", noise={"audio": [0, 10]}, seed=2, **TRUST)
        (curve,) = found.noise
        assert [point.level for point in curve.points] == [None, 10, 0]
        subject = open_subject("latest")
        material = open_material(subject, load_corpus("small", copied.root), "test", jobs=1, trust_extractors=True)
        loud = NoisyAudio.around(material.extractors["audio"], "white", 0, seed=2)  # type: ignore[arg-type]
        tables = {**material.tables, **load_features(material.corpus, {"audio": loud}, jobs=1)}
        maps = map_tasks(subject.bundle.tasks, material.corpus.tasks, "small")
        judge = Judge(subject.bundle.model, subject.bundle.tasks, maps, material.corpus, "test", CPU)
        assert curve.points[2].metrics == judge.measure(judge.answer(tables, ("audio", "text")))
        assert curve.points[2].alone == judge.measure(judge.answer(tables, ("audio",)))
        assert curve.points[0].metrics == copied.run.test_metrics
        assert curve.points[0].alone == copied.run.metrics["audio"]
        assert curve.floor == copied.run.metrics["text"]
        assert curve.lacking == ("test-05-high",)
        assert curve.points[2].metrics != curve.points[0].metrics

    def test_curves_are_logged_and_drawn(self, copied: Trained, tmp_path: Path) -> None:
        output = tmp_path / "new" / "folder"
        found = evaluate("latest", noise={"audio-pink": [5, -5], "text": [0.5]}, output=output, **TRUST)
        history = {m.step: m.value for m in client().get_metric_history(found.id, "audio-pink/sentiment.mae")}
        assert history == {round(p.level): p.metrics["sentiment.mae"] for p in found.noise[0].points if p.level}
        alone = client().get_metric_history(found.id, "text-alone/sentiment.mae")
        assert [(m.step, m.value) for m in alone] == [(50, found.noise[1].points[1].alone["sentiment.mae"])]
        for folder in (output, artifacts(found.id)):
            names = sorted(path.name for path in folder.iterdir())
            assert names == [
                "curve_audio-pink.png",
                "curve_text.png",
                "evaluation.json",
                "evaluation.md",
                "metrics.csv",
                "predictions",
            ]
            assert {path.name for path in (folder / "predictions").iterdir()} == {
                "audio+text.csv",
                "audio-pink_-5.csv",
                "audio-pink_5.csv",
                "text_0.5.csv",
            }
        assert json.loads((output / "evaluation.json").read_text(encoding="utf-8")) == found.to_dict()
        assert "1 clip (test-05-high) never had audio" in (output / "evaluation.md").read_text(encoding="utf-8")

    def test_words_are_misheard_at_the_rate_that_is_told(self, copied: Trained, small: Any) -> None:
        found = evaluate("latest", noise={"text": [0.8]}, **TRUST)
        point = found.noise[0].points[1]
        assert point.realised is not None
        corpus = load_corpus("small", copied.root)
        said = [clip.transcript or "" for clip in corpus.split("test")]
        words = sum(len(text.split()) for text in said)
        assert 0 < point.realised < 1.2
        assert point.realised * words == pytest.approx(round(point.realised * words), abs=1e-9)
        assert word_error_rate(said, said) == 0.0
        assert "test-02-low" in point.without  # it never had words

    def test_a_modality_that_noise_wipes_out_is_missing(
        self, copied: Trained, monkeypatch: pytest.MonkeyPatch, small: Any
    ) -> None:
        """Every frame dropped: the model answers as without vision; shown with words that all go."""
        monkeypatch.setattr("mmsa.robustness.words.mishear", lambda *_, **__: "")
        found = evaluate("latest", noise={"text": [1.0]}, **TRUST)
        (curve,) = found.noise
        assert curve.points[1].metrics == copied.run.metrics["audio"] == curve.floor
        assert len(curve.points[1].without) == 7

    def test_noise_needs_a_modality_that_the_model_is_given(self, copied: Trained, small: Any) -> None:
        with pytest.raises(UsageError, match="--noise vision-blur changes vision, which this model is not given"):
            evaluate("latest", noise={"vision-blur": [1]}, **TRUST)
        with pytest.raises(UsageError, match="which this model is not given: it is given text"):
            evaluate("latest", noise={"audio": [1]}, modalities=("text",), **TRUST)
        assert not small.CALLS  # before anything was extracted


class TestAnotherCorpus:
    @pytest.fixture
    def table(self, copied: Trained, tmp_path: Path) -> Path:
        """Text alone, sentiment from 0 to 10, and emotions of which one is unknown to the model."""
        path = tmp_path / "theirs.csv"
        rows = [
            ("a", "WONDERFUL morning", 7.5, "high"),
            ("b", "so it", 2.5, "low"),
            ("c", "so it", 2.5, "mixed"),
            ("d", "WONDERFUL morning", 7.5, ""),
        ]
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [["id", "split", "transcript", "sentiment", "emotion"], *([i, "test", *rest] for i, *rest in rows)]
            )
        tasks = {
            "sentiment": {"kind": "regression", "low": 0, "high": 10},
            "emotion": {"kind": "classification", "classes": ["mixed", "high", "low"]},
        }
        path.with_suffix(".yaml").write_text(yaml.safe_dump({"tasks": tasks}), encoding="utf-8")
        return path

    def test_tasks_are_mapped_and_said(self, copied: Trained, table: Path) -> None:
        found = evaluate("latest", corpus=str(table), **TRUST)
        assert (found.corpus, found.clips, found.modalities) == ("theirs", 4, ("text",))
        assert found.test_metrics["emotion.accuracy"] == 1.0
        assert found.test_metrics["sentiment.mae"] < 1.25  # a tenth of the range more than on its own corpus
        notes = " | ".join(found.notes)
        assert "predictions in [-1, 1] are rescaled to the labels' [0, 10]" in notes
        assert "the model does not know mixed: clips with these labels are left out" in notes
        assert "no clip has audio: the model goes without" in notes
        run = client().get_run(found.id)
        assert run.data.tags["mmsa.corpus"] == run.data.params["corpus"] == "theirs"
        with (artifacts(found.id) / "predictions" / "text.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [json.loads(row["emotion.label"]) for row in rows][:2] == [0.0, 1.0]
        assert np.isnan([json.loads(row["emotion.label"]) for row in rows][2:]).all()
        assert 5 < float(rows[0]["sentiment.prediction"]) < 10

    def test_text_noise_works_on_text_alone(self, copied: Trained, table: Path) -> None:
        found = evaluate("latest", corpus=str(table), noise={"text": [0.5]}, drop_modalities=True, **TRUST)
        assert list(found.metrics) == ["text"]
        assert found.noise[0].floor == {}  # nothing is left without the words
        assert not found.noise[0].has_alone  # which are alone as it is
        with pytest.raises(UsageError, match="--noise audio changes audio, which no clip has"):
            evaluate("latest", corpus=str(table), noise={"audio": [5]}, **TRUST)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tst"}, "there is no split 'tst'. Did you mean 'test'?"),
        ({"repeats": 0}, "repeats must be at least 1, not 0"),
        ({"noise": {"audio": [1e6]}}, "takes levels from -40 to 100"),
        ({"corpus": "mled"}, "there is no corpus 'mled'"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    copied: Trained, small: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        evaluate("latest", **TRUST, **options)
    assert not small.CALLS


def test_a_failing_evaluation_leaves_no_result(copied: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("mmsa.evaluating.write_files", stop)
    with pytest.raises(RuntimeError, match="the disk is full"):
        evaluate("latest", **TRUST)
    experiment = client().get_run(copied.run.id).info.experiment_id
    runs = client().search_runs([experiment], "tags.mmsa = 'evaluate'")
    assert [run.info.status for run in runs] == ["FAILED"]


def test_a_result_is_plain_json(copied: Trained) -> None:
    found = evaluate("latest", drop_modalities=True, repeats=1, noise={"text": [0.3]}, **TRUST)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["schema"] == "mmsa.evaluate/1"
    assert [curve["noise"] for curve in plain["curves"]] == ["missing", "text"]
    assert isinstance(found, Evaluation)
