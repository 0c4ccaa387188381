"""`TransformerFace` on a tiny ViT that is built and saved here, against `vision.transformers` on the same crops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import extractors
from extractors.facial.transformer import TransformerFace
from extractors.vision.transformer import TransformerVision


@pytest.fixture(scope="module")
def folder(save_classifier: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's checkpoint, of which the encoder is used."""
    return save_classifier("vision", tmp_path_factory.mktemp("vision") / "m", ["a", "b"])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_equals_the_encoder_on_the_crop(folder: Path, astronaut: np.ndarray, tmp_path: Path, pooling: str) -> None:
    face = TransformerFace(model=str(folder), pooling=pooling, crop_pixels=96)
    source = face._view.mesh.open_source()
    points = source.find(astronaut)
    source.close()
    assert points is not None
    Image.fromarray(astronaut).save(tmp_path / "whole.png")
    Image.fromarray(face._view.crop(astronaut, points)).save(tmp_path / "crop.png")
    picture = TransformerVision(model=str(folder), pooling=pooling)
    found = extractors.extract(tmp_path / "whole.png", {"vision": face}).sequences["vision"]
    expected = extractors.extract(tmp_path / "crop.png", {"vision": picture}).sequences["vision"]
    assert np.allclose(found.values, expected.values, atol=1e-5)
    whole = extractors.extract(tmp_path / "whole.png", {"vision": picture}).sequences["vision"]
    assert np.abs(found.values - whole.values).max() > 0.05


def test_a_video_in_windows_and_batches(folder: Path, face_video: Path) -> None:
    """A face for a second, nobody for one, a face for one, at five frames a second; memory is let go of on the way."""
    whole = extractors.extract(face_video, {"vision": TransformerFace(model=str(folder), batch_size=1)})
    found = whole.sequences["vision"]
    assert found.times[:, 0].tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 2.0, 2.2, 2.4, 2.6, 2.8])
    many = {"vision": TransformerFace(model=str(folder), batch_size=4)}
    windows = list(extractors.extract_windows(face_video, many, extractors.Sliding(1.0, 1.0)))
    assert [len(window.extraction.sequences["vision"]) for window in windows] == [5, 0, 5]
    assert windows[1].extraction.missing == {"vision": "no face found in 5 sampled frames"}
    joined = np.concatenate([window.extraction.sequences["vision"].values for window in windows])
    assert np.allclose(joined, found.values, atol=1e-5)


def test_what_changes_numbers_changes_the_fingerprint(folder: Path) -> None:
    usual = TransformerFace(model=str(folder)).spec
    for change in ({"pooling": "mean"}, {"margin": 0.3}, {"crop_pixels": 112}, {"min_detection_confidence": 0.7}):
        assert TransformerFace(model=str(folder), **change).spec.fingerprint != usual.fingerprint  # type: ignore[arg-type]
    assert TransformerFace(model=str(folder), batch_size=2, device="cpu").spec == usual
    assert extractors.rebuild(extractors.ExtractorSpec.from_json(usual.to_json())).spec == usual


def test_parameters_are_checked(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"pooling must be one of \('cls', 'mean', 'pooled'\), not 'max'"):
        TransformerFace(model=str(folder), pooling="max")
    with pytest.raises(extractors.ToolError, match=r"its weights lack pooler.*set pooling"):
        TransformerFace(model=str(folder), pooling="pooled").stream()
