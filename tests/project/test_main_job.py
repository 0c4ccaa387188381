"""The main job as a user runs it: render, extract, train, look into MLflow, score good and bad files.

One test worker does all of it, on the whole demo corpus, through the command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

pytestmark = pytest.mark.slow

BEST_ALONE_MARGIN = 0.1


@dataclass(frozen=True)
class Workplace:
    """A working directory with a trained demo run."""

    folder: Path
    environment: dict[str, str]
    trained: dict[str, Any]

    def mmsa(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        command = [sys.executable, "-m", "mmsa", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=900, check=False
        )

    def score(self, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """`mmsa score latest … --json`: exit code and the rows by file name."""
        done = self.mmsa("score", "latest", *arguments, "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, {Path(row["path"]).name: row for row in rows}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("main_job")
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["MMSA_CACHE"] = str(folder / "cache")
    empty = Workplace(folder, environment, {})
    done = empty.mmsa("train", "--fusion", "late", "--json")
    assert done.returncode == 0, done.stderr
    return Workplace(folder, environment, json.loads(done.stdout))


@pytest.fixture(scope="module")
def astronaut_video(place: Workplace) -> Path:
    """A real photograph as a silent video of two seconds, slowly zoomed."""
    from skimage.data import astronaut

    picture = astronaut()
    path = place.folder / "astronaut.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 400, 400, "yuv420p"
        for number in range(50):
            shift = number // 4
            crop = np.ascontiguousarray(picture[shift : shift + 400, 20 + shift : 420 + shift])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(crop, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_fusion_beats_the_best_single_modality(place: Workplace) -> None:
    metrics = place.trained["metrics"]
    fused = metrics["+".join(place.trained["modalities"])]
    for name in ("sentiment.corr", "emotion.weighted_f1"):
        alone = {key: found[name] for key, found in metrics.items() if "+" not in key}
        assert set(alone) == {"audio", "text", "vision"}
        assert fused[name] > max(alone.values()) + BEST_ALONE_MARGIN


def test_the_note_about_rendered_figures_travels_with_the_run(place: Workplace) -> None:
    assert any("never results about people" in note for note in place.trained["notes"])
    text = place.mmsa("score", "latest", str(next(place.folder.glob("cache/demo/*/*.mp4")))).stdout
    assert "never results about people" in " ".join(text.split())


def test_mlflow_has_parameters_curves_metrics_and_artifacts(place: Workplace) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{place.folder / 'mlruns' / 'mlflow.db'}")
    run = client.get_run(place.trained["id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["fusion"] == "late"
    assert run.data.metrics["test/sentiment.corr"] == pytest.approx(
        place.trained["metrics"]["audio+text+vision"]["sentiment.corr"]
    )
    assert "test-audio/emotion.weighted_f1" in run.data.metrics
    assert len(client.get_metric_history(run.info.run_id, "valid/loss")) == place.trained["epochs"]
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"bundle", "pictures", "predictions_test.csv"} <= artifacts
    pictures = {item.path for item in client.list_artifacts(run.info.run_id, "pictures")}
    assert pictures == {"pictures/emotion.png", "pictures/sentiment.png", "pictures/learning_curves.png"}


def test_scoring_a_test_clip_equals_evaluating_its_features(place: Workplace) -> None:
    """Train/serve parity: the predictions that training kept, from the media again."""
    import csv

    import mlflow

    uri = f"sqlite:///{place.folder / 'mlruns' / 'mlflow.db'}"
    kept = mlflow.artifacts.download_artifacts(
        run_id=place.trained["id"], artifact_path="predictions_test.csv", tracking_uri=uri
    )
    with Path(kept).open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    sys_path = next(place.folder.glob(f"cache/demo/*/{row['clip']}.mp4"))
    from mmsa.demo.script import write_script

    words = next(clip.transcript for clip in write_script(0, None) if clip.id == row["clip"])
    code, scored = place.score(str(sys_path), "--text", words)
    assert code == 0
    value = min(max(float(row["sentiment.prediction"]), -3.0), 3.0)
    (window,) = scored[sys_path.name]["windows"]
    assert window["scores"]["sentiment"]["value"] == pytest.approx(value, abs=1e-5)


def test_contributions_sum_to_the_distance_from_the_mean(place: Workplace) -> None:
    video = str(next(place.folder.glob("cache/demo/*/*.mp4")))
    _, rows = place.score(video, "--text", "What a wonderful day, I love it.")
    (row,) = next(iter(rows.values()))["windows"]
    bundle = json.loads(next(place.folder.glob("mlruns/artifacts/*/artifacts/bundle/bundle.json")).read_text())
    moved = sum(found["contribution"]["sentiment"] for found in row["modalities"].values())
    value = row["scores"]["sentiment"]["value"]
    if abs(value) < 3:  # the printed score is clipped to the range
        assert moved == pytest.approx(value - bundle["baseline"][0], abs=1e-4)
    assert sum(found["weight"] for found in row["modalities"].values()) == pytest.approx(1, abs=1e-4)


def test_a_real_face_is_found_and_smiles(place: Workplace, astronaut_video: Path) -> None:
    import extractors
    from mmsa.demo.render import render_video

    code, rows = place.score(str(astronaut_video))
    assert code == 0
    (row,) = rows["astronaut.mp4"]["windows"]
    assert row["modalities"]["vision"]["present"]
    assert set(row["missing"]) == {"audio", "text"}
    assert row["missing"]["text"] == "no transcript"
    assert row["modalities"]["text"]["weight"] == 0
    assert sum(row["scores"]["emotion"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)

    neutral = place.folder / "neutral.mp4"
    render_video(neutral, speaker="s00", emotion="neutral", transcript="", seconds=2.0)
    face = extractors.build("facial.facemesh")
    column = face.names.index("smile")
    smile, drawn = (
        extractors.extract(path, {"vision": face}).sequences["vision"].values[:, column].mean()
        for path in (astronaut_video, neutral)
    )
    assert smile > drawn


def test_bad_files_are_reported_and_the_others_scored(place: Workplace) -> None:
    from mmsa.demo.render import render_video

    folder = place.folder
    render_video(folder / "good.mp4", speaker="s17", emotion="joy", seconds=2.5)
    render_video(folder / "silent.mp4", speaker="s17", emotion="joy", seconds=2.5, with_audio=False)
    render_video(folder / "faceless.mp4", speaker="s17", emotion="joy", seconds=2.5, with_face=False)
    (folder / "truncated.mp4").write_bytes((folder / "good.mp4").read_bytes()[:8000])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "words.mp4").write_text("this is no film\n" * 100)
    names = ["good", "truncated", "empty", "words", "silent", "absent", "faceless"]
    (folder / "good.srt").write_text("1\n00:00:00,200 --> 00:00:02,000\nI <i>love</i> this!\n")
    code, rows = place.score(*(str(folder / f"{name}.mp4") for name in names))
    assert code == 1
    assert [name for name in names if "error" in rows[f"{name}.mp4"]] == ["truncated", "empty", "words", "absent"]
    for name in ("truncated", "empty", "words", "absent"):
        assert f"{name}.mp4" in rows[f"{name}.mp4"]["error"]
    assert rows["good.mp4"]["windows"][0]["missing"] == {}
    assert set(rows["silent.mp4"]["windows"][0]["missing"]) == {"audio", "text"}
    assert set(rows["faceless.mp4"]["windows"][0]["missing"]) == {"vision", "text"}


def test_usage_errors_exit_with_2_and_say_what_to_do(place: Workplace) -> None:
    unknown = place.mmsa("train", "--fusion", "lte")
    assert unknown.returncode == 2
    assert "Did you mean 'late'?" in unknown.stderr
    nobody = place.mmsa("score", "nosuchrun", "x.mp4")
    assert nobody.returncode == 2
    assert "an MLflow run id, a registered model, a bundle folder, or 'latest'" in " ".join(nobody.stderr.split())
    modality = place.mmsa("train", "--modalities", "text,smell")
    assert modality.returncode == 2
    assert "smell" in modality.stderr
