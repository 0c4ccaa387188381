"""Published classifiers in miniature: tiny ones with those very labels, whose heads say what is known by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from mmsa.demo.render import render_video
from mmsa.errors import UsageError
from mmsa.scoring import Score, load_scorer
from mmsa.scoring.ensemble import EMOTIONS, read_ensemble
from mmsa.scoring.pretrained import PretrainedScorer

Mmsa = Callable[..., tuple[int, str, str]]
Save = Callable[..., Path]

# Text: three independent labels with 0.5, 0.25 and 0.25, all others with nothing: joy 0.75, anger 0.25; valence 0.5.
TEXT = {"joy": 0.0, "love": np.log(1 / 3), "annoyance": np.log(1 / 3)}
NEVER = -60.0
# Speech: valence 0.1 - 0.3 - 0.2 = -0.4.
AUDIO = {"neu": 0.4, "hap": 0.1, "ang": 0.3, "sad": 0.2}
# Face: valence 0.3 - 0.1 - 0.05 - 0.2 - 0.05 = -0.1.
VISION = {"angry": 0.1, "disgust": 0.05, "fear": 0.2, "happy": 0.3, "neutral": 0.1, "sad": 0.05, "surprise": 0.2}
# Disgust, fear and surprise, of which the speech model knows nothing, as the other two say on average; the 0.775 that
# these leave to the rest in three equal parts, of which the speech model shares out one.
FUSED = {
    "disgust": 0.025, "fear": 0.1, "surprise": 0.1, "neutral": (0.4 * 0.775 + 0.1) / 3,
    "joy": (0.1 * 0.775 + 0.75 + 0.3) / 3, "anger": (0.3 * 0.775 + 0.25 + 0.1) / 3,
    "sadness": (0.2 * 0.775 + 0.05) / 3,
}  # fmt: skip
HEARD = {"neutral": 0.4, "joy": 0.1, "anger": 0.3, "sadness": 0.2, "disgust": 0.0, "fear": 0.0, "surprise": 0.0}


@pytest.fixture(scope="session")
def models(save_classifier: Save, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models as `--models` takes it, each under its hub id."""
    folder, members = tmp_path_factory.mktemp("models"), read_ensemble().members
    labels = {key: list(member.labels) for key, member in members.items()}
    said = [TEXT.get(label, NEVER) for label in labels["text"]]
    save_classifier("text", folder / members["text"].model, labels["text"], said, several=True)
    for key, known in (("audio", AUDIO), ("vision", VISION)):
        said = [float(np.log(known[label])) for label in labels[key]]
        save_classifier(key, folder / members[key].model, labels[key], said)
    return folder


@pytest.fixture(scope="session")
def scorer(models: Path) -> PretrainedScorer:
    return PretrainedScorer(read_ensemble(models=models))


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn speaker for three seconds, whose words are known for the first and a half."""
    path = tmp_path_factory.mktemp("video") / "talk.mp4"
    render_video(path, emotion="joy", seconds=3.0)
    path.with_suffix(".srt").write_text("1\n00:00:00,000 --> 00:00:01,500\nWhat a wonderful day\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def probabilities(score: Score) -> dict[str, float]:
    return dict(score.scores["emotion"].probabilities)


def test_the_fused_numbers_are_those_worked_out_by_hand(scorer: PretrainedScorer, video: Path) -> None:
    found = scorer.score(video)
    assert probabilities(found) == pytest.approx(FUSED, abs=1e-5)
    assert list(probabilities(found)) == list(EMOTIONS)
    assert found.scores["emotion"].label == "joy"
    assert found.scores["sentiment"].value == pytest.approx((0.5 - 0.4 - 0.1) / 3, abs=1e-5)
    assert found.scores["sentiment"].interval is None
    assert found.notes == ()


def test_each_modality_says_what_it_says_alone(scorer: PretrainedScorer, video: Path) -> None:
    """Six frames at two a second, one piece of sound, one text; contributions sum to the way from nothing."""
    found = scorer.score(video)
    alone = {key: one.scores for key, one in found.modalities.items()}
    assert {key: one["sentiment"].value for key, one in alone.items()} == pytest.approx(
        {"text": 0.5, "audio": -0.4, "vision": -0.1}, abs=1e-5
    )
    assert dict(alone["audio"]["emotion"].probabilities) == pytest.approx(HEARD, abs=1e-5)
    assert alone["vision"]["emotion"].probabilities["surprise"] == pytest.approx(0.2, abs=1e-5)
    assert {key: one.steps for key, one in found.modalities.items()} == {"text": 1, "audio": 1, "vision": 6}
    assert [one.weight for one in found.modalities.values()] == pytest.approx([1 / 3] * 3)
    moved = {key: one.contribution for key, one in found.modalities.items()}
    assert sum(one["emotion"] for one in moved.values()) == pytest.approx(FUSED["joy"] - 1 / 7, abs=1e-5)
    assert sum(one["sentiment"] for one in moved.values()) == pytest.approx(0.0, abs=1e-5)
    # By hand, text: alone 0.5; with audio 0.05 against -0.4; with vision 0.2 against -0.1; with both 0 against -0.25.
    assert moved["text"]["sentiment"] == pytest.approx(0.5 / 3 + (0.45 + 0.3) / 6 + 0.25 / 3, abs=1e-5)


def test_weights_are_settable(models: Path, video: Path) -> None:
    """Text twice: valence (2 · 0.5 - 0.4 - 0.1) / 4; of the emotions that speech does not know, text 2 and face 1."""
    found = PretrainedScorer(read_ensemble(None, {"text.weight": 2}, models=models)).score(video)
    assert found.scores["sentiment"].value == pytest.approx(0.125, abs=1e-5)
    assert probabilities(found)["fear"] == pytest.approx(0.2 / 3, abs=1e-5)
    assert [one.weight for one in found.modalities.values()] == pytest.approx([0.5, 0.25, 0.25])


def test_what_is_missing_is_said_and_leaves_the_rest_to_count(
    scorer: PretrainedScorer, video: Path, tmp_path: Path
) -> None:
    """Without words and without a face the voice alone is believed, and a note says what it does not know."""
    path = tmp_path / "wall.mp4"
    render_video(path, emotion="joy", seconds=2.0, with_face=False)
    found = scorer.score(path)
    assert found.windows[0].missing == {"text": "no transcript", "vision": "no face found in 4 sampled frames"}
    assert probabilities(found) == pytest.approx(HEARD, abs=1e-5)
    assert found.notes == ("nothing that is present knows surprise, fear, disgust, whose probability is therefore 0",)
    assert (found.modalities["audio"].weight, found.modalities["vision"].weight) == (1.0, 0.0)
    render_video(tmp_path / "mute.mp4", emotion="joy", seconds=1.0, with_audio=False, with_face=False)
    with pytest.raises(
        UsageError, match=r"nothing to score .*audio: no audio stream; text: no transcript; vision: no fa"
    ):
        scorer.score(tmp_path / "mute.mp4")


def test_a_photograph_is_scored_by_its_face_and_words(scorer: PretrainedScorer, tmp_path: Path) -> None:
    from PIL import Image

    photo = pytest.importorskip("skimage.data").astronaut()
    Image.fromarray(photo).save(tmp_path / "post.png")
    found = scorer.score(tmp_path / "post.png", text="What a day!")
    assert found.scores["sentiment"].value == pytest.approx((0.5 - 0.1) / 2, abs=1e-5)
    assert found.modalities["audio"].reason == "a still image has no sound"


def test_along_time_the_words_count_where_they_are_said(scorer: PretrainedScorer, video: Path) -> None:
    found = scorer.score(video, window_seconds=1, hop_seconds=1)
    assert [window.modalities["text"].present for window in found.windows] == [True, True, False]
    values = [window.scores["sentiment"].value for window in found.windows]
    assert values == pytest.approx([0.0, 0.0, -0.25], abs=1e-5)
    assert found.summary is not None
    assert found.summary.coverage == pytest.approx({"text": 2 / 3, "audio": 1.0, "vision": 1.0}, abs=1e-5)
    assert found.windows[2].missing == {"text": "no words in this part of the transcript"}


class TestModel:
    def test_says_who_speaks_and_on_what_terms(self, scorer: PretrainedScorer) -> None:
        model = scorer.model
        assert model["corpus"] == ""
        assert "none: probabilities are those of published classifiers" in model["calibration"]
        for member in scorer.ensemble.members.values():
            assert f"{member.model} ({member.licence}" in model["note"]
        assert "knows neutral, sadness, joy, anger only" in model["note"]

    def test_the_digest_follows_the_numbers_and_not_the_place(
        self, scorer: PretrainedScorer, models: Path, tmp_path: Path, save_classifier: Save
    ) -> None:
        def digest(folder: Path, **options: Any) -> str:
            settings = {key.replace("_", "."): value for key, value in options.items()}
            return PretrainedScorer(read_ensemble(None, settings, models=folder)).model["digest"]

        moved = tmp_path / "moved"
        shutil.copytree(models, moved)
        assert digest(moved) == scorer.model["digest"]
        assert digest(moved, text_weight=2) != scorer.model["digest"]
        ears = moved / scorer.ensemble.members["audio"].model
        shutil.rmtree(ears)
        save_classifier("audio", ears, list(AUDIO), [0.0, 0.0, 0.0, 0.1])
        assert digest(moved) != scorer.model["digest"]

    def test_is_loaded_by_name(self, models: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MMSA_MODELS", str(models))
        named = load_scorer("pretrained")
        assert named.score(video) == load_scorer(read_ensemble(models=models)).score(video)


class TestAbsent:
    def test_all_are_named_with_their_place_and_files(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="3 of 3 models cannot be had here") as caught:
            PretrainedScorer(read_ensemble(models=tmp_path / "empty"))
        told = str(caught.value)
        for key, member in read_ensemble().members.items():
            assert f"{key}: {member.model} (" in told
            assert f"belongs into {tmp_path / 'empty' / member.model}: config.json, model.safetensors" in told
            assert f"hf download {member.model} --revision {member.revision} --local-dir {member.model}" in told
        assert "--models FOLDER or $MMSA_MODELS" in told
        assert "Or score without them" not in told

    def test_those_that_are_there_may_be_used_alone(self, models: Path, video: Path, tmp_path: Path) -> None:
        """What the message advises is done, and works."""
        shutil.copytree(models, tmp_path / "some")
        shutil.rmtree(tmp_path / "some" / "superb")
        with pytest.raises(
            UsageError, match=r"(?s)1 of 3 models.*audio: superb.*score without them: --modalities text,vision"
        ):
            PretrainedScorer(read_ensemble(models=tmp_path / "some"))
        rest = PretrainedScorer(read_ensemble(models=tmp_path / "some", modalities=["text", "vision"]))
        assert rest.score(video).scores["sentiment"].value == pytest.approx((0.5 - 0.1) / 2, abs=1e-5)

    @pytest.mark.parametrize(
        ("key", "file", "reason"),
        [
            ("vision", "model.safetensors", "no file named model.safetensors"),
            ("vision", "preprocessor_config.json", "preprocessor_config.json"),
            ("audio", "preprocessor_config.json", "preprocessor_config.json"),
            ("text", "tokenizer.json", "tokenizer"),
        ],
    )
    def test_a_folder_that_lacks_a_file(self, models: Path, tmp_path: Path, key: str, file: str, reason: str) -> None:
        ensemble = read_ensemble(models=tmp_path / "some", modalities=[key])
        model = ensemble.members[key].model
        shutil.copytree(models / model, tmp_path / "some" / model)
        (tmp_path / "some" / model / file).unlink()
        if key == "text":
            (tmp_path / "some" / model / "tokenizer_config.json").unlink()
        with pytest.raises(UsageError, match=f"1 of 1 models cannot be had here:\n  {key}: {model} .*{reason}"):
            PretrainedScorer(ensemble)

    def test_what_the_hub_left_in_its_cache_is_used(
        self, models: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the hub's client lays it out: `models--ORGANISATION--NAME/snapshots/COMMIT`."""
        ensemble = read_ensemble(models=tmp_path / "empty", modalities=["vision"])
        member = ensemble.members["vision"]
        home = tmp_path / "hub" / f"models--{member.model.replace('/', '--')}"
        shutil.copytree(models / member.model, home / "snapshots" / str(member.revision))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        scorer = PretrainedScorer(ensemble)
        assert scorer.score(video).scores["sentiment"].value == pytest.approx(-0.1, abs=1e-5)
        assert scorer.extractors["vision"].spec.parameters["revision"] == member.revision


def test_labels_that_do_not_fit_are_named(models: Path) -> None:
    """Two at once: one lacks a label, the other has one that its model has not."""
    labels = read_ensemble().members["text"].model_dump()["labels"]
    less = {name: label for name, label in labels.items() if name != "grief"}
    options = {"text.labels": less, "vision.labels": {**dict.fromkeys(VISION, "neutral"), "contempt": "disgust"}}
    with pytest.raises(UsageError, match="the classifiers do not fit what is said of them") as caught:
        PretrainedScorer(read_ensemble(None, options, models=models))
    assert "text: " in str(caught.value)
    assert "the map lacks 'grief'" in str(caught.value)
    assert "the model has no 'contempt'" in str(caught.value)


def test_a_parameter_that_is_none(models: Path) -> None:
    with pytest.raises(UsageError, match=r"vision: extractor 'facial.classifier' has no parameter 'margni'"):
        PretrainedScorer(read_ensemble(None, {"vision.parameters": {"margni": 1}}, models=models))


def test_several_faces_have_no_one_opinion(models: Path) -> None:
    with pytest.raises(UsageError, match=r"vision: faces: all gives no one opinion of several faces: set largest or"):
        PretrainedScorer(read_ensemble(None, {"vision.parameters": {"faces": "all"}}, models=models))
    speaking = PretrainedScorer(read_ensemble(None, {"vision.parameters": {"faces": "speaking"}}, models=models))
    assert speaking.extractors["vision"].spec.parameters["faces"] == "speaking"


def test_code_in_a_models_folder_is_never_run(models: Path, video: Path, tmp_path: Path) -> None:
    ensemble = read_ensemble(models=tmp_path / "models", modalities=["vision"])
    folder = tmp_path / "models" / ensemble.members["vision"].model
    shutil.copytree(models / ensemble.members["vision"].model, folder)
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n", encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModelForImageClassification"), "mine.Mine")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert PretrainedScorer(ensemble).score(video).scores["sentiment"].value == pytest.approx(-0.1, abs=1e-5)
    assert not (tmp_path / "ran").exists()


class TestCommand:
    def test_along_time_in_every_format_and_twice(
        self, run_mmsa: Mmsa, models: Path, video: Path, tmp_path: Path
    ) -> None:
        """Rows are of the documented schema, hold what the library says, and are not made twice."""
        words = ("score", "pretrained", video, tmp_path / "gone.mp4", "--models", models, "--window", "1", "--hop", "1")
        words = (*words, "--output", tmp_path / "out", "--format", "csv,vtt")
        code, out, err = run_mmsa(*words)
        assert code == 1
        assert "Note: Late fusion of published classifiers" in out
        assert "gone.mp4" in err
        rows = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text("utf-8").splitlines()]
        schema = json.loads((Path(load_scorer.__code__.co_filename).parent / "schema.json").read_text("utf-8"))
        for row in rows:
            jsonschema.validate(row, schema)
        library = PretrainedScorer(read_ensemble(models=models)).score(video, window_seconds=1, hop_seconds=1)
        assert Score.from_dict({**rows[0], "key": ""}) == library
        assert "sentiment" in (tmp_path / "out" / "vtt" / "talk.vtt").read_text("utf-8")
        assert len((tmp_path / "out" / "scores.csv").read_text("utf-8").splitlines()) == 5
        before = (tmp_path / "out" / "scores.jsonl").read_bytes()
        code, _, err = run_mmsa(*words)
        assert code == 1
        assert "2 of 2 are in" in err
        assert (tmp_path / "out" / "scores.jsonl").read_bytes() == before
        code, _, err = run_mmsa(*words, "--set", "text.weight=2")
        assert code == 2
        assert "holds the scores of another model (published classifiers, digest" in err

    def test_a_file_of_other_classifiers(
        self, run_mmsa: Mmsa, video: Path, tmp_path: Path, save_classifier: Save
    ) -> None:
        save_classifier("vision", tmp_path / "eyes", ["smile", "still"], [float(np.log(3)), 0.0])
        file = tmp_path / "mine.yaml"
        file.write_text(
            "vision:\n  model: eyes\n  labels: {smile: joy, still: {emotion: neutral, valence: -0.2}}\n", "utf-8"
        )
        code, out, _ = run_mmsa("score", "pretrained", video, "--config", file, "--json")
        assert code == 0
        (row,) = [json.loads(line) for line in out.splitlines()]
        (window,) = row["windows"]
        assert window["scores"]["sentiment"] == {"value": pytest.approx(0.75 - 0.05, abs=1e-5), "interval": None}
        assert window["scores"]["emotion"]["probabilities"]["joy"] == pytest.approx(0.75, abs=1e-5)
        assert "vision: eyes (not stated, knows neutral, joy only)" in row["model"]["note"]

    def test_nothing_to_be_had(self, run_mmsa: Mmsa, video: Path, tmp_path: Path) -> None:
        code, _, err = run_mmsa("score", "pretrained", video, "--models", tmp_path / "empty")
        assert code == 2
        assert "3 of 3 models cannot be had here" in err

    def test_options_that_do_not_go_with_a_trained_run(self, run_mmsa: Mmsa, video: Path, tmp_path: Path) -> None:
        for words in (("--models", tmp_path), ("--modalities", "text"), ("--config", tmp_path / "x"), ("--set", "a=1")):
            code, _, err = run_mmsa("score", "latest", video, *words)
            assert code == 2
            assert f"{words[0]} chooses among published classifiers: it goes with `mmsa score pretrained`" in err

    def test_the_help_names_it(self, run_mmsa: Mmsa) -> None:
        code, out, _ = run_mmsa("score", "--help")
        assert code == 0
        assert "'pretrained': published classifiers" in " ".join(out.replace("│", " ").split())
