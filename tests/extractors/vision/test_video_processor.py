"""The Pillow form of video processors, against transformers' own image processors for video and by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image

from extractors.errors import ToolError
from extractors.pretrained import Source, folder_sha256
from extractors.vision.video_processor import load_video_processor


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Coloured gradients with noise, 50 × 70."""
    y, x = np.mgrid[0:50, 0:70] / 70.0
    noise = np.random.default_rng(0).normal(0, 12, (50, 70, 3))
    return np.clip(255 * np.stack([x, y, 1 - x], axis=2) + noise, 0, 255).astype(np.uint8)


def prepared(folder: Path, model_type: str, image: np.ndarray) -> np.ndarray:
    processor = load_video_processor(Source(str(folder), None, True), model_type)
    return processor([image], input_data_format="channels_last", return_tensors="np")["pixel_values"][0, 0]


@pytest.mark.parametrize("kind", ["videomae", "timesformer", "vivit"])
def test_equals_transformers_own_for_a_window(video_encoders: Callable, photo: np.ndarray, kind: str) -> None:
    folder = video_encoders(kind)
    window = [photo, photo[::-1], photo[:, ::-1], photo[:40]]
    own = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    expected = own([Image.fromarray(image) for image in window], return_tensors="np")["pixel_values"][0]
    for image, one in zip(window, expected, strict=True):
        assert np.allclose(prepared(folder, kind, image), one, atol=1e-6)
    assert expected.std() > 0.3


def by_hand(image: np.ndarray, edge: int, crop: int, mean: list[float], std: list[float]) -> np.ndarray:
    height, width = image.shape[:2]
    scale = edge / min(height, width)
    small = Image.fromarray(image).resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
    left, top = (small.width - crop) // 2, (small.height - crop) // 2
    values = np.asarray(small, np.float64)[top : top + crop, left : left + crop] / 255
    return ((values - mean) / std).transpose(2, 0, 1)


def test_v_jepa_2_by_hand(video_encoders: Callable, photo: np.ndarray) -> None:
    """Its shortest edge is 256 / 224 of the crop, whatever the file says: 36 for 32."""
    found = prepared(video_encoders("vjepa2"), "vjepa2", photo)
    expected = by_hand(photo, 36, 32, [0.48, 0.45, 0.40], [0.27, 0.26, 0.28])
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["VideoMAE", "Timesformer", "Vivit", "VJEPA2"])
def test_as_the_form_that_needs_torchvision(
    save_video_encoder: Callable, tmp_path: Path, photo: np.ndarray, kind: str
) -> None:
    """Which is what `AutoVideoProcessor` gives: interpolated pixels differ by one grey level of 256, if at all."""
    pytest.importorskip("torchvision")
    folder = save_video_encoder(kind.lower(), tmp_path / "m")
    own = transformers.AutoVideoProcessor.from_pretrained(folder)
    assert type(own).__name__ == f"{kind}VideoProcessor"
    given = own([photo.transpose(2, 0, 1)[None]], return_tensors="np")
    expected = next(iter(given.values()))[0, 0]
    apart = np.abs(prepared(folder, kind.lower(), photo) - expected)
    level = (2 if kind == "Vivit" else 1) / 255 / np.array([0.27, 0.26, 0.28])[:, None, None]
    assert (apart < 1.01 * level).all()
    assert (apart < 0.01 * level).mean() > 0.9


def test_settings_come_from_where_transformers_looks_first(
    save_video_encoder: Callable, tmp_path: Path, photo: np.ndarray
) -> None:
    folder = save_video_encoder("timesformer", tmp_path / "m")
    source, hashes = json.loads((folder / "preprocessor_config.json").read_text()), [folder_sha256(folder)]
    assert np.allclose(
        prepared(folder, "timesformer", photo),
        by_hand(photo, 36, 32, source["image_mean"], source["image_std"]),
        atol=1e-5,
    )
    video = {**source, "image_mean": [0.1, 0.2, 0.3], "video_processor_type": "TimesformerVideoProcessor"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    hashes.append(folder_sha256(folder))
    expected = by_hand(photo, 36, 32, [0.1, 0.2, 0.3], source["image_std"])
    assert np.allclose(prepared(folder, "timesformer", photo), expected, atol=1e-5)
    nested = {"video_processor": {**video, "image_std": [0.5, 0.6, 0.7]}}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    hashes.append(folder_sha256(folder))
    expected = by_hand(photo, 36, 32, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    assert np.allclose(prepared(folder, "timesformer", photo), expected, atol=1e-5)
    assert len(set(hashes)) == 3  # what decides the numbers decides who the model is


def test_what_is_not_set_is_as_in_the_models_own_class(
    save_video_encoder: Callable, tmp_path: Path, photo: np.ndarray
) -> None:
    """TimeSformer's pictures are normalised by ImageNet's mean and deviation, VideoMAE's by one half."""
    sizes = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    first = save_video_encoder("timesformer", tmp_path / "a", preprocessor=sizes)
    expected = by_hand(photo, 36, 32, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert np.allclose(prepared(first, "timesformer", photo), expected, atol=1e-5)
    second = save_video_encoder("videomae", tmp_path / "b", preprocessor=sizes)
    expected = by_hand(photo, 36, 32, [0.5] * 3, [0.5] * 3)
    assert np.allclose(prepared(second, "videomae", photo), expected, atol=1e-5)


def test_what_is_no_video_processor(save_video_encoder: Callable, tmp_path: Path) -> None:
    folder = save_video_encoder("videomae", tmp_path / "m", preprocessor={"image_processor_type": "CLIPImageProcessor"})
    source = Source(str(folder), None, True)
    with pytest.raises(
        ToolError, match=r"its processor \(CLIPImageProcessor\) is none .* those of VideoMAE, Timesformer"
    ):
        load_video_processor(source, "videomae")
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ToolError, match=r"its processor \(of the model type 'vit'\) is none of a video encoder"):
        load_video_processor(source, "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ToolError, match=r"the video processor cannot be loaded .*Needed is preprocessor_config\.json"):
        load_video_processor(source, "videomae")
