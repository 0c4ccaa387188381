"""`--faces`: refused where it has no effect; from drawn conversations to a model that reads the speaker's face."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extractors.facial.facemesh import WHICH
from mmsa.config import make_config
from mmsa.errors import UsageError
from mmsa.faces import KEY, check_faces
from tests.extractors.conftest import _save_video_encoder, write_media
from tests.extractors.facial.conftest import Stage

Mmsa = Callable[..., tuple[int, str, str]]
STAGE = Stage()
SECONDS = 1.2


class TestChecking:
    def test_every_choice_is_taken_by_every_extractor_of_faces(self) -> None:
        for faces in WHICH:
            check_faces(faces, make_config(None, {KEY: faces}))
            for name in ("facial.transformers", "facial.classifier", "facial.video_transformers"):
                check_faces(faces, make_config(None, {KEY: faces, "extractors.vision.name": name}))

    @pytest.mark.parametrize(
        ("faces", "settings", "message"),
        [
            ("speakng", {}, "there is no choice of --faces 'speakng'. Did you mean 'speaking'\\? Allowed: all, first"),
            ("all", {"modalities": ["text", "audio"]}, "vision is not among the modalities text, audio"),
            ("all", {"extractors.vision.name": "vision.colour"}, "vision.colour looks at whole pictures. Leave it out, "
             "or choose one of facial.facemesh, facial.transformers, facial.classifier"),
            ("all", {"extractors.vision.name": "vision.color"}, "unknown extractor 'vision.color' \\(did you mean"),
            ("all", {"extractors.vision.parameters.faces": "largest"}, "at odds with --set, which asks for largest"),
        ],
    )  # fmt: skip
    def test_what_has_no_effect_is_refused(self, faces: str, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            check_faces(faces, make_config(None, {KEY: faces, **settings}))

    @pytest.mark.parametrize("command", [["train"], ["extract", "demo"]])
    def test_both_commands_check_before_any_work(self, run_mmsa: Mmsa, workspace: Path, command: list[str]) -> None:
        code, _, err = run_mmsa(*command, "--faces", "all", "--set", "extractors.vision.name=vision.pixels")
        assert code == 2
        assert "--faces all has no effect: vision.pixels looks at whole pictures" in err

    def test_a_corpus_without_vision_is_told(self, run_mmsa: Mmsa, workspace: Path) -> None:
        (workspace / "words.csv").write_text(
            "id,split,transcript,mood\n" + "".join(f"{s},{s},word {s},0.5\n" for s in ("train", "valid", "test"))
        )
        (workspace / "words.yaml").write_text("tasks: {mood: {kind: regression, low: -1, high: 1}}\n")
        code, _, err = run_mmsa("train", "--corpus", "words.csv", "--faces", "speaking")
        assert code == 2
        assert "extractors.vision.parameters.faces has no effect: the corpus words has only text" in err


def conversation(path: Path, number: int) -> Path:
    """Even ones: the left one speaks, odd ones: the right one; the other one moves lips as well."""
    speaking, other = STAGE.syllables(10 + number, 0.0, SECONDS), STAGE.syllables(500 + number, 0.1, SECONDS)
    left, right = (speaking, other) if number % 2 == 0 else (other, speaking)
    actors = [STAGE.actor("s15", lambda t: 250.0, left), STAGE.actor("s16", lambda t: 650.0, right)]
    voice = STAGE.voice([speaking], SECONDS)
    return write_media(path, frames=STAGE.draw(actors, SECONDS), fps=STAGE.rate, samples=voice, rate=16000)


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 12 conversations of two, labelled with who speaks."""
    folder = tmp_path_factory.mktemp("conversations")
    with (folder / "clips.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "split", "media", "side"])
        for number in range(12):
            split = "train" if number < 6 else "valid" if number < 9 else "test"
            conversation(folder / f"{number}.mp4", number)
            rows.writerow([number, split, f"{number}.mp4", ("left", "right")[number % 2]])
    (folder / "clips.yaml").write_text("tasks: {side: {kind: classification, classes: [left, right]}}\nname: sides\n")
    return folder


def settings(**more: Any) -> list[str]:
    own = {"epochs": 40, "learning_rate": 0.03, "batch_size": 8, "jobs": 1, "head.hidden_dim": 8, **more}
    pairs = {**own, "extractors.vision.parameters.landmarks": "none", "modality_dropout": 0.0}
    return [word for key, value in pairs.items() for word in ("--set", f"{key}={value}")]


@pytest.mark.slow
def test_who_speaks_is_learned_from_the_speakers_face_alone(
    run_mmsa: Mmsa, workspace: Path, conversations: Path
) -> None:
    """Only vision is asked for, so that the sound is decoded for it. Where the face is tells the side."""
    words = ["train", "--corpus", str(conversations), "--modalities", "vision", *settings()]
    code, out, err = run_mmsa(*words, "--faces", "speaking", "--json")
    assert code == 0, err
    (run,) = [json.loads(line) for line in out.splitlines()]
    assert run["metrics"]["vision"]["side.accuracy"] == 1.0

    code, out, err = run_mmsa("score", "latest", str(conversation(workspace / "new.mp4", 21)), "--json")
    assert code == 0, err
    score = json.loads(out.splitlines()[0])
    assert score["windows"][0]["scores"]["side"]["label"] == "right"


@pytest.mark.slow
def test_everybody_from_extraction_to_a_score(run_mmsa: Mmsa, workspace: Path, conversations: Path) -> None:
    """Two steps a frame, in the store, through a head on a common grid, and in a score."""
    words = ["--corpus", str(conversations), "--modalities", "audio,vision", "--faces", "all"]
    code, out, err = run_mmsa("train", *words, "--fusion", "mult", *settings(epochs=2), "--json")
    assert code == 0, err
    (run,) = [json.loads(line) for line in out.splitlines()]
    assert np.isfinite(run["metrics"]["audio+vision"]["side.accuracy"])
    listed = run_mmsa("extract", "--list", "--json")[1]
    (vision,) = [row for row in map(json.loads, listed.splitlines()) if "facemesh" in str(row)]
    assert vision["steps"] == 12 * 2 * 12
    code, out, err = run_mmsa("score", "latest", str(conversation(workspace / "new.mp4", 20)), "--json")
    assert code == 0, err
    window = json.loads(out.splitlines()[0])["windows"][0]
    assert window["modalities"]["vision"]["steps"] == 2 * 12
    assert sum(window["scores"]["side"]["probabilities"].values()) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow
def test_windows_of_everybody_from_extraction_to_a_score(run_mmsa: Mmsa, workspace: Path, conversations: Path) -> None:
    """`facial.video_transformers`: of 1.2 s 10 frames are sampled, and windows of 4 begin with every second one.

    So there are four, and one more which the end of the clip cuts in half: five, with two faces in each.
    """
    folder = _save_video_encoder("videomae", workspace / "videomae")
    vision = {
        "extractors.vision.name": "facial.video_transformers",
        "extractors.vision.parameters.model": str(folder),
        "extractors.vision.parameters.crop_pixels": 64,
    }
    own = [word for key, value in vision.items() for word in ("--set", f"{key}={value}")]
    (workspace / "folder").mkdir()
    clip = conversation(workspace / "folder" / "new.mp4", 20)
    asked = ["--modalities", "vision", "--faces", "all", *own, "--output", "found", "--json"]
    code, out, err = run_mmsa("extract", "folder", *asked)
    assert code == 0, err
    assert json.loads(out.splitlines()[0])["steps"] == {"vision": 2 * 5}

    head = {"epochs": 2, "jobs": 1, "head.hidden_dim": 8, "modality_dropout": 0.0}
    words = [word for key, value in head.items() for word in ("--set", f"{key}={value}")]
    corpus = ["--corpus", str(conversations), "--modalities", "audio,vision", "--fusion", "mult"]
    code, out, err = run_mmsa("train", *corpus, "--faces", "all", *own, *words, "--json")
    assert code == 0, err
    listed = run_mmsa("extract", "--list", "--json")[1]
    (row,) = [row for row in map(json.loads, listed.splitlines()) if "video_transformers" in str(row)]
    assert row["steps"] == 12 * 2 * 5
    code, out, err = run_mmsa("score", "latest", str(clip), "--json")
    assert code == 0, err
    window = json.loads(out.splitlines()[0])["windows"][0]
    assert window["modalities"]["vision"]["steps"] == 2 * 5
    assert sum(window["scores"]["side"]["probabilities"].values()) == pytest.approx(1.0, abs=1e-3)
