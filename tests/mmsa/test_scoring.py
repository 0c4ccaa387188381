from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from extractors import MediaError
from mmsa.corpora import load_corpus
from mmsa.errors import UsageError
from mmsa.scoring import SCHEMA, Scorer, TaskScore, load_scorer

if TYPE_CHECKING:
    from conftest import Trained


TASKS = ("sentiment", "emotion")


@pytest.fixture
def scorer(trained: Trained) -> Scorer:
    return load_scorer(trained.run.id, trust_extractors=True)


@pytest.fixture
def video(trained: Trained, tmp_path: Path) -> Path:
    """A loud test clip, without anything beside it."""
    return Path(shutil.copy(trained.root / "test-01-high.wav", tmp_path / "clip.wav"))


def test_scoring_a_clip_gives_what_evaluation_gave(trained: Trained, scorer: Scorer) -> None:
    """The same numbers from the bundle and the file alone as from the corpus, features and model of the training."""
    with (trained.run.bundle.parent / "predictions_test.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["clip"]: row for row in csv.DictReader(file)}
    for clip in load_corpus("small", trained.root).split("test"):
        assert clip.media is not None
        found = scorer.score(clip.media, text=clip.transcript or "")
        row = rows[clip.id]
        logits = np.array([float(row[f"emotion.{name}"]) for name in ("low", "high")])
        shares = np.exp(logits) / np.exp(logits).sum()
        assert list(found.scores["emotion"].probabilities.values()) == pytest.approx(shares, abs=1e-5)
        assert found.scores["emotion"].label == ("low", "high")[int(logits.argmax())]
        assert found.scores["sentiment"].value == pytest.approx(float(row["sentiment.prediction"]), abs=1e-5)


@pytest.mark.parametrize("run", ["latest", "folder"])
def test_a_run_can_be_named_in_several_ways(trained: Trained, scorer: Scorer, video: Path, run: str) -> None:
    named = str(trained.run.bundle) if run == "folder" else run
    assert load_scorer(named, trust_extractors=True).score(video) == scorer.score(video)


def test_a_missing_modality_is_said_and_weighs_nothing(scorer: Scorer, video: Path) -> None:
    found = scorer.score(video)
    text, audio = found.modalities["text"], found.modalities["audio"]
    assert (text.present, text.reason, text.steps, text.weight, text.scores) == (False, "no transcript", 0, 0.0, {})
    assert (audio.present, audio.reason, audio.steps) == (True, None, 3)
    assert audio.weight == pytest.approx(1.0)
    assert found.scores["sentiment"].value == pytest.approx(audio.scores["sentiment"].value)


def test_contributions_say_how_far_each_modality_moved_the_score(scorer: Scorer, video: Path) -> None:
    """Of two modalities, by hand: half of what each does alone, half of what it adds to the other."""
    found = scorer.score(video, text="so it")
    label = found.scores["emotion"].label
    position = 1 + ("low", "high").index(str(label))

    def value(of: Mapping[str, TaskScore], task: str) -> float:
        return of["sentiment"].value or 0.0 if task == "sentiment" else of["emotion"].probabilities[str(label)]

    for task, base in (("sentiment", scorer.bundle.baseline[0]), ("emotion", scorer.bundle.baseline[position])):
        both = value(found.scores, task)
        audio, text = (value(found.modalities[key].scores, task) for key in ("audio", "text"))
        moved = {key: found.modalities[key].contribution[task] for key in ("audio", "text")}
        assert moved["audio"] == pytest.approx((audio - base + both - text) / 2, abs=1e-5)
        assert moved["text"] == pytest.approx((text - base + both - audio) / 2, abs=1e-5)


def test_a_modality_alone_did_all_the_moving(scorer: Scorer, video: Path) -> None:
    found = scorer.score(video)
    assert found.modalities["text"].contribution == {}
    moved = found.modalities["audio"].contribution["sentiment"]
    assert moved == pytest.approx((found.scores["sentiment"].value or 0.0) - scorer.bundle.baseline[0], abs=1e-5)


def test_a_sidecar_is_read_and_the_given_text_wins(scorer: Scorer, video: Path) -> None:
    video.with_suffix(".txt").write_text("WONDERFUL morning", encoding="utf-8")
    beside = scorer.score(video)
    assert beside.modalities["text"].steps == 2
    assert beside == scorer.score(video, text="WONDERFUL morning")
    assert scorer.score(video, text="so it goes").modalities["text"].steps == 3
    video.with_suffix(".srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nyes\n", encoding="utf-8")
    assert scorer.score(video).modalities["text"].steps == 1


def test_scores_stay_within_the_task(scorer: Scorer, video: Path) -> None:
    with torch.no_grad():
        for name, parameter in scorer.bundle.model.named_parameters():
            if name.endswith("output.bias"):
                parameter.fill_(50.0)
    found = scorer.score(video, text="so")
    assert found.scores["sentiment"].value == 1.0
    assert sum(found.scores["emotion"].probabilities.values()) == pytest.approx(1.0)


def test_a_file_that_cannot_be_read_does_not_stop_the_others(scorer: Scorer, video: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    gone = tmp_path / "gone.mp4"
    results = list(scorer.score_many([broken, video, gone]))
    assert [result.path for result in results] == [str(broken), str(video), str(gone)]
    assert [result.error is None for result in results] == [False, True, False]
    assert results[0].scores == {}
    assert "not readable as media" in (results[0].error or "")
    assert results[0].to_dict() == {"schema": SCHEMA, "path": str(broken), "error": results[0].error}
    with pytest.raises(MediaError, match="No such file"):
        scorer.score(gone)


def test_a_file_with_none_of_the_modalities_is_refused(scorer: Scorer, trained: Trained) -> None:
    with pytest.raises(
        UsageError, match=r"nothing to score in .*test-05-high\.wav \(audio: silent; text: no transcript"
    ):
        scorer.score(trained.root / "test-05-high.wav")


def test_a_row_is_plain_json(scorer: Scorer, video: Path) -> None:
    row = json.loads(json.dumps(scorer.score(video).to_dict()))
    assert row["schema"] == "mmsa.score/1"
    assert row["missing"] == {"text": "no transcript"}
    assert row["duration_seconds"] == pytest.approx(0.3)
    assert set(row["emotion"]) == {"label", "probabilities"}
    assert set(row["sentiment"]) == {"value"}
    assert set(row["modalities"]["audio"]) == {"present", "reason", "steps", "weight", "contribution", *TASKS}


def test_an_unknown_run_is_a_usage_error(trained: Trained) -> None:
    with pytest.raises(UsageError, match="no bundle found for 'nonesuch'"):
        load_scorer("nonesuch")


def test_extractors_that_are_not_mmsas_own_run_only_when_trusted(trained: Trained) -> None:
    """A bundle is data from elsewhere: importing a module it names would run that module's code."""
    with pytest.raises(
        UsageError, match=r"small_extractors:Loudness.*code that is not part of mmsa.*--trust-extractors"
    ):
        load_scorer(trained.run.id)


def test_an_unreadable_sidecar_fails_its_file_only(scorer: Scorer, video: Path, tmp_path: Path) -> None:
    copy = tmp_path / f"copy{video.suffix}"
    copy.write_bytes(video.read_bytes())
    copy.with_suffix(".srt").write_bytes(b"\xff\xfe\x00\xd8 no subtitles")
    first, second = scorer.score_many([copy, video])
    assert first.error is not None
    assert "the transcript beside copy" in first.error
    assert second.error is None
