from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import transformers

import extractors
from extractors.errors import ToolError
from extractors.vision.pixels import Pixels


def save(folder: Path, **options: object) -> Path:
    transformers.ViTConfig(image_size=12).save_pretrained(folder)
    own = {"size": {"height": 8, "width": 12}, "image_mean": [0.5, 0.25, 0.0], "image_std": [0.5, 0.25, 1.0]}
    transformers.ViTImageProcessor(**{**own, **options}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("vit"))


def test_one_colour_by_hand(folder: Path) -> None:
    """Scaled to 0 … 1, the channel's mean taken off, divided by its spread; shown twice, it is two steps."""
    extractor = Pixels(model=str(folder), frames_per_second=4)
    stream = extractor.stream()
    stream.push(np.full((40, 60, 3), (255, 51, 102), np.uint8), [2, 3])
    found = stream.finish()
    assert found.values.shape == (2, 3 * 8 * 12)
    pictures = found.values.reshape(2, 3, 8, 12)
    for channel, value in enumerate((1.0, (0.2 - 0.25) / 0.25, 0.4)):
        np.testing.assert_allclose(pictures[:, channel], value, atol=1e-6)
    assert found.times.tolist() == [[0.5, 0.75], [0.75, 1.0]]


def test_rows_are_the_processors_own(folder: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    stream = Pixels(model=str(folder)).stream()
    stream.push(image, [0])
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    expected = processor(images=image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(stream.finish().values[0], expected.ravel())


def test_names_say_channel_row_and_column(folder: Path) -> None:
    names = Pixels(model=str(folder)).names
    assert (names[0], names[11], names[12], names[-1]) == ("0.0.0", "0.0.11", "0.1.0", "2.7.11")


def test_the_spec_names_the_processor_and_not_the_weights(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "model.safetensors").write_bytes(b"other weights")
    spec = Pixels(model=str(folder)).spec
    assert Pixels(model=str(copy)).spec == spec
    assert extractors.rebuild(spec).spec == spec
    save(copy, image_mean=[0.1, 0.1, 0.1])
    assert Pixels(model=str(copy)).spec != spec
    assert Pixels.raw


def test_pictures_of_other_sizes_are_refused(tmp_path: Path) -> None:
    transformers.CLIPConfig().save_pretrained(tmp_path)
    transformers.CLIPImageProcessor(size={"shortest_edge": 8}, do_center_crop=False).save_pretrained(tmp_path)
    with pytest.raises(ToolError, match=r"keeps an image's proportions .*set do_center_crop or a fixed height"):
        Pixels(model=str(tmp_path))
