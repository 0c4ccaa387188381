from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.models import Model
from mlflow.pyfunc.scoring_server import infer_and_parse_data

from mmsa.bundle import WEIGHTS, load_bundle
from mmsa.scoring import load_scorer
from mmsa.serving.flavor import input_example, write_flavor
from mmsa.tracking import client, find_bundle, tracking_uri

if TYPE_CHECKING:
    from conftest import Trained


@pytest.fixture(autouse=True)
def _trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSA_SERVE_TRUST_EXTRACTORS", "1")


@pytest.fixture
def served(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The run, with MLflow's own functions looking at its store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri())
    return trained


def test_a_run_left_an_mlflow_model_that_scores_as_the_scorer_does(served: Trained) -> None:
    clip = served.root / "test-01-high.wav"
    model = mlflow.pyfunc.load_model(f"runs:/{served.run.id}/bundle")
    answer = model.predict([{"media": clip.read_bytes(), "text": "WONDERFUL morning"}])
    expected = load_scorer(served.run.id, trust_extractors=True).score(clip, text="WONDERFUL morning")
    assert answer.loc[0, "error"] is None
    assert answer.loc[0, "sentiment"] == pytest.approx(expected.scores["sentiment"].value, abs=1e-6)
    assert answer.loc[0, "emotion.high"] == pytest.approx(expected.scores["emotion"].probabilities["high"], abs=1e-6)
    assert answer.loc[0, "emotion"] == expected.scores["emotion"].label


def test_the_weights_are_there_once_and_nothing_is_pickled(trained: Trained) -> None:
    names = [path.name for path in trained.run.bundle.rglob("*") if path.is_file()]
    artifacts = trained.run.bundle.parent
    assert [path.relative_to(artifacts).parts[0] for path in artifacts.rglob(WEIGHTS)] == ["bundle"]
    assert {"MLmodel", "requirements.txt", "input_example.json", "bundle.json", WEIGHTS} <= set(names)
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".bin"))]


def test_a_registered_model_is_served_and_scored_with(copied: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle(copied.run.bundle)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri())
    mlflow.register_model(f"runs:/{copied.run.id}/bundle", "moods")
    client().set_registered_model_alias("moods", "best", "1")
    answer = mlflow.pyfunc.load_model("models:/moods@best").predict(input_example(bundle))
    assert answer.loc[0, "id"] == "example"
    assert answer.loc[0, "error"] is None
    assert find_bundle("moods@best") == copied.run.bundle


def test_the_recorded_example_is_a_valid_request(served: Trained) -> None:
    """Parsed from JSON as MLflow's server parses it, held against the signature, and scored."""
    request = json.loads((served.run.bundle / "serving_input_example.json").read_text(encoding="utf-8"))
    model = mlflow.pyfunc.load_model(f"runs:/{served.run.id}/bundle")
    params = request.pop("params")
    answer = model.predict(infer_and_parse_data(request, model.metadata.get_input_schema()), params=params)
    assert answer.loc[0, "error"] is None
    assert isinstance(answer.loc[0, "sentiment"], float)
    assert params == {"window_seconds": 0.0, "hop_seconds": 0.0}


def test_the_signature_names_every_column(served: Trained) -> None:
    about = Model.load(str(served.run.bundle))
    assert about.signature is not None
    assert about.signature.inputs.input_names() == ["path", "media", "text", "start", "end", "id"]
    assert about.metadata == {"corpus": "small", "note": "A corpus of tones."}
    answer = mlflow.pyfunc.load_model(str(served.run.bundle)).predict(input_example(load_bundle(served.run.bundle)))
    assert about.signature.outputs.input_names() == list(answer.columns)


def test_a_model_of_pictures_has_a_picture_as_example(trained: Trained, tmp_path: Path) -> None:
    from PIL import Image

    bundle = load_bundle(trained.run.bundle)
    seen = replace(bundle, extractors={"vision": bundle.extractors["audio"]})
    row = input_example(seen).loc[0]
    path = tmp_path / "example"
    path.write_bytes(row["media"])
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (64, 64))
    assert "text" not in row


def test_a_lock_file_of_the_working_directory_is_not_taken_along(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(trained.run.bundle)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_UV_AUTO_DETECT", raising=False)
    (tmp_path / "uv.lock").write_text("version = 1\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\nversion = '1'\n", encoding="utf-8")
    write_flavor(tmp_path / "model", bundle)
    assert not {"uv.lock", "pyproject.toml"} & {path.name for path in (tmp_path / "model").iterdir()}


@pytest.mark.parametrize(
    ("version", "wanted"), [("0.1.0", "mmsa-framework==0.1.0"), ("not installed", "mmsa-framework")]
)
def test_the_requirement_is_the_version_that_trained(
    trained: Trained, tmp_path: Path, version: str, wanted: str
) -> None:
    bundle = replace(load_bundle(trained.run.bundle), versions={"mmsa-framework": version})
    write_flavor(tmp_path / "model", bundle)
    lines = (tmp_path / "model" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert wanted in lines
