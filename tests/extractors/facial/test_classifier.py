"""`FaceClassifier` on tiny classifiers that are built and saved here, against plain forward passes on the crops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import extractors
from extractors.facial.classifier import FaceClassifier
from extractors.facial.landmarks import open_several_faces

LABELS = ("angry", "happy", "sad")


@pytest.fixture(scope="module")
def folder(save_classifier: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier("vision", tmp_path_factory.mktemp("vision") / "m", LABELS)


@pytest.fixture(scope="module")
def expected(folder: Path, astronaut: np.ndarray) -> np.ndarray:
    """What transformers says of the photograph's crop."""
    extractor = FaceClassifier(model=str(folder))
    source = extractor._view.mesh.open_source()
    points = source.find(astronaut)
    source.close()
    assert points is not None
    crop = extractor._view.crop(astronaut, points)
    assert crop.shape == (224, 224, 3)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**processor(Image.fromarray(crop), return_tensors="pt")).logits.softmax(-1).numpy()[0]


def test_a_photograph(folder: Path, astronaut: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    extractor = extractors.build("facial.classifier", model=str(folder))
    assert extractor.names == LABELS
    found = extractors.extract(tmp_path / "a.png", {"vision": extractor}).sequences["vision"]
    assert np.allclose(found.values, expected[None], atol=1e-5)
    assert found.values.sum() == pytest.approx(1.0, abs=1e-5)


def test_a_video_in_batches_and_parts(folder: Path, face_video: Path) -> None:
    """A face for a second, nobody for one, a face for one, at two frames a second."""
    one, many = (FaceClassifier(model=str(folder), batch_size=size) for size in (1, 8))
    found = extractors.extract(face_video, {"vision": one}).sequences["vision"]
    assert found.times[:, 0].tolist() == [0.0, 0.5, 2.0, 2.5]
    together = extractors.extract(face_video, {"vision": many}).sequences["vision"]
    assert np.allclose(together.values, found.values, atol=1e-5)
    part = extractors.extract(face_video, {"vision": many}, start_seconds=2.0, end_seconds=3.0).sequences["vision"]
    assert np.allclose(part.times, found.times[2:])
    assert np.allclose(part.values[:1], found.values[2:3], atol=1e-5)
    nobody = extractors.extract(face_video, {"vision": many}, start_seconds=1.0, end_seconds=2.0)
    assert nobody.missing == {"vision": "no face found in 2 sampled frames"}


def test_the_spec_rebuilds_the_extractor(folder: Path) -> None:
    extractor = FaceClassifier(model=str(folder), margin=0.3)
    again = extractors.rebuild(extractors.ExtractorSpec.from_json(extractor.spec.to_json()))
    assert again.spec == extractor.spec
    assert again.spec.fingerprint != FaceClassifier(model=str(folder)).spec.fingerprint
    assert FaceClassifier(model=str(folder), margin=0.3, batch_size=1, device="cpu").spec == extractor.spec


def test_everybody_in_a_picture(folder: Path, astronaut: np.ndarray, tmp_path: Path) -> None:
    """Each face's probabilities by a plain forward pass on its own crop, and its rank from left to right."""
    page = np.full((560, 1000, 3), 90, np.uint8)
    page[20:532, 480:992] = astronaut
    page[20:400, 10:390] = np.asarray(Image.fromarray(astronaut).resize((380, 380)))
    Image.fromarray(page).save(tmp_path / "two.png")
    extractor = FaceClassifier(model=str(folder), faces="all")
    assert extractor.names == (*LABELS, "track")
    found = extractors.extract(tmp_path / "two.png", {"vision": extractor}).sequences["vision"]
    source = open_several_faces(0.5)
    points = sorted(source.find_all(page), key=lambda one: one[1, 0])
    source.close()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        crops = [Image.fromarray(extractor._view.crop(page, one)) for one in points]
        expected = model(**processor(crops, return_tensors="pt")).logits.softmax(-1).numpy()
    assert found.values[:, :-1] == pytest.approx(expected, abs=1e-5)
    assert found.values[:, -1].tolist() == [0, 1]
