"""`vision.colour` on pictures whose numbers can be worked out by hand."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import extractors
from extractors.vision.colour import Colour, colourfulness, describe

NAMES = Colour().names


def of(image: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, describe([image])[0].tolist(), strict=True))


def flat(colour: tuple[int, int, int], height: int = 30, width: int = 45) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_pure_red() -> None:
    """Hue 0, S = V = 1. rg = 255 and yb = 127.5 everywhere, so M³ = 0.3 · 285.10 = 85.53, over 255 0.3354."""
    found = of(flat((255, 0, 0)))
    ones = {"hue_0", "hue_cos", "saturation_mean", "brightness_mean", "centre_saturation", "centre_brightness"}
    for name, value in found.items():
        if name != "colourfulness":
            assert value == pytest.approx(float(name in ones), abs=1e-5), name
    assert found["colourfulness"] == pytest.approx(0.3 * np.hypot(1.0, 0.5), rel=1e-5)


@pytest.mark.parametrize("angle", range(0, 360, 30))
def test_hues_lie_in_their_bins(angle: int) -> None:
    """S = 0.8 and V = 0.9 at 10° to either side of a bin's middle."""
    for hue in (angle - 10, angle + 10):
        rgb = colorsys.hsv_to_rgb(hue % 360 / 360, 0.8, 0.9)
        found = of(flat(tuple(round(255 * c) for c in rgb)))
        assert found[f"hue_{angle}"] == pytest.approx(0.72, abs=0.01)
        assert sum(found[f"hue_{k}"] for k in range(0, 360, 30)) == pytest.approx(0.72, abs=0.01)
        assert found["hue_cos"] == pytest.approx(0.72 * np.cos(np.deg2rad(hue)), abs=0.01)
        assert found["hue_sin"] == pytest.approx(0.72 * np.sin(np.deg2rad(hue)), abs=0.01)


def test_grey_has_no_hue() -> None:
    found = of(flat((128, 128, 128)))
    assert found["brightness_mean"] == pytest.approx(128 / 255, abs=1e-6)
    assert all(value == 0 for name, value in found.items() if "brightness" not in name)


def test_halves_of_black_and_white() -> None:
    """20 × 40, the right half white: an edge at which two columns of 40 see a gradient of a half."""
    image = flat((0, 0, 0), 20, 40)
    image[:, 20:] = 255
    found = of(image)
    assert found["brightness_mean"] == pytest.approx(0.5)
    assert found["brightness_std"] == pytest.approx(0.5)
    assert found["brightness_range"] == pytest.approx(1.0)
    assert found["centre_brightness"] == pytest.approx(0.5)  # columns 13 to 26, of which 20 to 26 are white
    assert found["edge_energy"] == pytest.approx(2 * 0.5 / 40, rel=1e-5)
    # The Laplacian is +1 beside the edge on the black side and -1 on the other: mean 0, so the root of 2/40.
    assert found["detail"] == pytest.approx(np.sqrt(2 / 40), rel=1e-5)
    assert found["colourfulness"] == pytest.approx(0.0, abs=1e-6)


def test_the_middle_ninth() -> None:
    image = flat((0, 0, 0), 30, 60)
    image[10:20, 20:40] = (0, 0, 255)
    found = of(image)
    for name, value in (
        ("centre_saturation", 1),
        ("centre_brightness", 1),
        ("saturation_mean", 1 / 9),
        ("hue_240", 1 / 9),
    ):
        assert found[name] == pytest.approx(value), name


def test_colourfulness_of_two_colours() -> None:
    """Half red (rg 1, yb 0.5), half blue (rg 0, yb -1): deviations 0.5 and 0.75, means 0.5 and -0.25."""
    image = np.zeros((4, 6, 3), np.float32)
    image[:, :3, 0] = 1.0
    image[:, 3:, 2] = 1.0
    expected = np.sqrt(0.5**2 + 0.75**2) + 0.3 * np.sqrt(0.5**2 + 0.25**2)
    assert colourfulness(image) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (500, 3)])
def test_any_size_is_finite(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.isfinite(describe([image])).all()


def test_frames_of_a_video(media: Callable[..., Path]) -> None:
    """A second of red, a second of blue, two instants of each: the hue follows, whatever the codec does to it."""
    path = media("a.mp4", frames=[flat((255, 0, 0), 48, 64)] * 25 + [flat((0, 0, 255), 48, 64)] * 25)
    extractor = extractors.build("vision.colour", frames_per_second=2.0)
    found = extractors.extract(path, {"vision": extractor}).sequences["vision"]
    red, blue = found.values[:, NAMES.index("hue_0")], found.values[:, NAMES.index("hue_240")]
    assert found.times[:, 0].tolist() == [0.0, 0.5, 1.0, 1.5]
    assert (red[:2] > 0.9).all()
    assert (blue[2:] > 0.9).all()
    assert (red[2:] == 0).all()
    assert (blue[:2] == 0).all()
    again = extractors.rebuild(extractor.spec)
    assert again.spec == extractor.spec


@pytest.mark.parametrize(("name", "value"), [("frames_per_second", 0), ("max_side_pixels", 5)])
def test_parameters_are_checked(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number from"):
        Colour(**{name: value})  # type: ignore[arg-type]
