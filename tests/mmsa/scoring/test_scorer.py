from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from extractors import MediaError
from mmsa.corpora import load_corpus
from mmsa.errors import UsageError
from mmsa.scoring import SCHEMA, Scorer, TaskScore, load_scorer
from mmsa.scoring.scorer import model_digest
from mmsa.tasks import MultiLabel

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
    assert scorer.bundle.calibration is not None
    heat = scorer.bundle.calibration.temperatures["emotion"]
    for clip in load_corpus("small", trained.root).split("test"):
        assert clip.media is not None
        found = scorer.score(clip.media, text=clip.transcript or "")
        row = rows[clip.id]
        logits = np.array([float(row[f"emotion.{name}"]) for name in ("low", "high")]) / heat
        shares = np.exp(logits) / np.exp(logits).sum()
        assert list(found.scores["emotion"].probabilities.values()) == pytest.approx(shares, abs=1e-5)
        assert found.scores["emotion"].label == ("low", "high")[int(logits.argmax())]
        assert found.scores["sentiment"].value == pytest.approx(float(row["sentiment.prediction"]), abs=1e-5)


def test_of_several_classes_those_above_one_half_are_named(trained: Trained, scorer: Scorer, video: Path) -> None:
    """The same outputs, read as those of a task in which both, one or none of the classes may hold."""
    moods = MultiLabel("emotion", ("low", "high"))
    several = Scorer(replace(scorer.bundle, tasks=(scorer.bundle.tasks[0], moods)), trust_extractors=True)
    for text in ("so it", "WONDERFUL morning"):
        with torch.inference_mode():
            single = scorer.score(video, text=text).scores["emotion"].probabilities
            found = several.score(video, text=text).scores["emotion"]
        odds = {name: share / (1 - share) for name, share in found.probabilities.items()}
        assert odds["high"] / odds["low"] == pytest.approx(single["high"] / single["low"], rel=1e-3)
        assert found.labels == tuple(name for name in ("low", "high") if odds[name] > 1)
        assert (found.label, found.value) == (None, None)
        assert found.to_dict() == {"labels": list(found.labels), "probabilities": dict(found.probabilities)}


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
    row = results[0].to_dict()
    assert (row["schema"], row["path"], row["error"]) == (SCHEMA, str(broken), results[0].error)
    assert not {"windows", "summary"} & set(row)
    with pytest.raises(MediaError, match="No such file"):
        scorer.score(gone)


def test_a_file_with_none_of_the_modalities_is_refused(scorer: Scorer, trained: Trained) -> None:
    with pytest.raises(
        UsageError, match=r"nothing to score in .*test-05-high\.wav \(audio: silent; text: no transcript"
    ):
        scorer.score(trained.root / "test-05-high.wav")


def test_a_row_is_plain_json(scorer: Scorer, video: Path) -> None:
    row = json.loads(json.dumps(scorer.score(video).to_dict()))
    assert row["schema"] == "mmsa.score/2"
    assert row["duration_seconds"] == pytest.approx(0.3)
    (window,) = row["windows"]
    assert window["missing"] == {"text": "no transcript"}
    assert set(window["scores"]["emotion"]) == {"label", "probabilities"}
    assert set(window["scores"]["sentiment"]) == {"value", "interval"}
    assert set(window["modalities"]["audio"]) == {"present", "reason", "steps", "weight", "contribution", "scores"}


def test_an_unknown_run_is_a_usage_error(trained: Trained) -> None:
    with pytest.raises(UsageError, match="no bundle found for 'nonesuch'"):
        load_scorer("nonesuch")


def test_where_it_decodes_is_handed_on(trained: Trained, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a whole file and to windows alike; a GPU that is not there is refused before anything is read."""
    import extractors

    asked: list[str] = []
    for name in ("extract", "extract_windows"):
        own = getattr(extractors, name)

        def watched(*given: object, device: str, own: Callable[..., object] = own, **more: object) -> object:
            asked.append(device)
            return own(*given, device=device, **more)

        monkeypatch.setattr(extractors, name, watched)
    scorer = load_scorer(trained.run.id, trust_extractors=True, device="cpu")
    plain = load_scorer(trained.run.id, trust_extractors=True)
    assert scorer.score(video) == plain.score(video)
    assert scorer.score(video, window_seconds=0.2) == plain.score(video, window_seconds=0.2)
    assert asked == ["cpu", "auto"] * 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device 'cuda' was asked for, but torch sees none"):
        load_scorer(trained.run.id, trust_extractors=True, device="cuda")
    with pytest.raises(UsageError, match=r"there is no device 'gpu'\. Did you mean 'cpu'"):
        load_scorer(trained.run.id, device="gpu")


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


class TestTimeline:
    @pytest.fixture
    def talk(self, tmp_path: Path, write_wav: Callable[[Path, list[float]], Path]) -> Path:
        """Two seconds that get louder, of which the second half has words."""
        path = write_wav(tmp_path / "talk.wav", [0.125] * 10 + [0.5] * 10)
        path.with_suffix(".vtt").write_text(
            "WEBVTT\n\n00:01.000 --> 00:01.500\n<v Ann>so it\n\n00:01.500 --> 00:02.000\n<v Bob>WONDERFUL morning\n",
            encoding="utf-8",
        )
        return path

    def test_each_window_is_what_its_segment_is_alone(self, scorer: Scorer, talk: Path) -> None:
        """Text is read whole by this corpus's extractor, so that sound alone is compared."""
        talk.with_suffix(".vtt").unlink()
        found = scorer.score(talk, window_seconds=1.0, hop_seconds=0.5)
        assert [(one.start_seconds, one.end_seconds) for one in found.windows] == [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)]
        for window in found.windows:
            alone = scorer.score(talk, start_seconds=window.start_seconds, end_seconds=window.end_seconds)
            assert window.scores["sentiment"].value == pytest.approx(alone.scores["sentiment"].value, abs=1e-5)
        assert found.duration_seconds == pytest.approx(2.0)

    def test_the_summary_is_over_the_windows(self, scorer: Scorer, talk: Path) -> None:
        found = scorer.score(talk, window_seconds=1.0, hop_seconds=1.0, smooth_seconds=0)
        assert found.summary is not None
        values = [window.scores["sentiment"].value or 0.0 for window in found.windows]
        mood = found.summary.tasks["sentiment"]
        assert mood.mean == pytest.approx(sum(values) / 2, abs=1e-6)
        assert mood.most_positive is not None
        assert mood.most_positive.seconds == 1.5
        assert found.summary.coverage == {"audio": 1.0, "text": 1.0}

    def test_subtitles_and_speakers_cut(self, scorer: Scorer, talk: Path) -> None:
        lines = scorer.score(talk, segments="subtitles").windows
        assert [(one.start_seconds, one.end_seconds, one.text) for one in lines] == [
            (1.0, 1.5, "so it"),
            (1.5, 2.0, "WONDERFUL morning"),
        ]
        assert [one.speaker for one in scorer.score(talk, segments="speakers").windows] == ["Ann", "Bob"]

    def test_words_without_times_are_in_no_window(self, scorer: Scorer, talk: Path) -> None:
        found = scorer.score(talk, text="so it goes", window_seconds=1.0)
        assert {window.missing["text"] for window in found.windows} == {"the transcript has no times"}

    def test_progress_ends_at_the_files_end(self, scorer: Scorer, talk: Path) -> None:
        told: list[float] = []
        scorer.score(talk, window_seconds=0.1, hop_seconds=0.1, progress=lambda seconds, _: told.append(seconds))
        assert told == sorted(told)
        assert told[-1] >= 1.75  # the last quarter of a second needs no window of its own

    def test_a_segment_is_not_cut_again(self, scorer: Scorer, talk: Path) -> None:
        with pytest.raises(UsageError, match="a segment is scored whole"):
            scorer.score(talk, start_seconds=1.0, window_seconds=1.0)

    def test_other_lengths_than_those_of_the_training_are_noted(self, scorer: Scorer, talk: Path) -> None:
        assert scorer.bundle.clip_seconds is not None
        scorer.bundle = replace(scorer.bundle, clip_seconds=(0.2, 0.3, 0.9))
        assert (
            "a clip of 2 s: longer than most clips the model was trained on (0.2 to 0.9 s)" in scorer.score(talk).notes
        )
        assert scorer.score(talk, window_seconds=0.5).notes == ()


def test_a_bundle_without_calibration_says_so(scorer: Scorer, video: Path) -> None:
    assert scorer.model["calibration"] == "fitted on 8 validation clips; intervals at 90%"
    older = Scorer(replace(scorer.bundle, calibration=None), trust_extractors=True)
    found = older.score(video)
    assert found.model["calibration"].startswith("none:")
    assert found.model["digest"] != scorer.model["digest"]
    assert found.scores["sentiment"].interval is None


def test_the_digest_follows_the_weights(scorer: Scorer) -> None:
    before = model_digest(scorer.bundle)
    assert before == model_digest(scorer.bundle)
    with torch.no_grad():
        next(iter(scorer.bundle.model.parameters())).view(-1)[0] += 1e-3
    assert model_digest(scorer.bundle) != before
