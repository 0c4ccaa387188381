"""Aligned crops: by geometry on points, and in pixels on a photograph that is turned, scaled and moved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from extractors.facial.canonical import RIGID, canonical_face
from extractors.facial.crop import crop_face, similarity, template

SIZE, MARGIN = 128, 0.15


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points[:, :2] @ matrix[:, :2].T + matrix[:, 2]


def plane(degrees: float, scale: float, x: float, y: float) -> np.ndarray:
    """Turn, scale and shift: `(2, 3)`."""
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, x], [s, c, y]])


def test_the_template_is_centred_between_hairline_and_chin() -> None:
    """Height from hairline to chin is 1 / 1.3 of the crop; the face is symmetric about the middle."""
    face = canonical_face()
    placed = template(SIZE, MARGIN)
    top = placed[RIGID.index(10)]
    unit = SIZE / ((face[10, 1] - face[152, 1]) * 1.3)
    assert top == pytest.approx((SIZE / 2, SIZE * (0.15 / 1.3)))
    left, right = placed[RIGID.index(33)], placed[RIGID.index(263)]
    assert right - left == pytest.approx((unit, 0.0))
    assert (left + right)[0] / 2 == pytest.approx(SIZE / 2)


@pytest.mark.parametrize("degrees", [0.0, 30.0, -75.0, 180.0])
def test_a_moved_face_lands_on_the_template(neutral: np.ndarray, degrees: float) -> None:
    """The neutral face, seen from the front and moved in the plane in any way, is taken there exactly."""
    flat = neutral[:, :2] * (1, -1)
    motion = plane(degrees, 73.0, 400.0, 250.0)
    points = np.zeros((478, 3))
    points[:, :2] = moved(flat, motion)
    found = moved(points, similarity(points, SIZE, MARGIN))[list(RIGID)]
    assert np.allclose(found, template(SIZE, MARGIN), atol=1e-9)


def test_the_similarity_is_the_best_one(view: Callable[..., np.ndarray]) -> None:
    """Of a head that is turned away, which fits nowhere exactly: any other motion nearby fits worse."""
    points = view(yaw=35.0, pitch=10.0, roll=15.0)
    best = similarity(points, SIZE, MARGIN)

    def misfit(matrix: np.ndarray) -> float:
        return float(((moved(points, matrix)[list(RIGID)] - template(SIZE, MARGIN)) ** 2).sum())

    turn = np.vstack([best, (0, 0, 1)])
    for degrees, scale, x, y in (
        (1, 1, 0, 0),
        (-1, 1, 0, 0),
        (0, 1.02, 0, 0),
        (0, 0.98, 0, 0),
        (0, 1, 1, 0),
        (0, 1, 0, 1),
    ):
        other = plane(degrees, scale, x, y) @ turn
        assert misfit(other) > misfit(best)
    assert best[:, :2] @ best[:, :2].T == pytest.approx(np.eye(2) * np.linalg.det(best[:, :2]), abs=1e-12)
    assert np.linalg.det(best[:, :2]) > 0


def test_what_is_no_face() -> None:
    with pytest.raises(ValueError, match="the rigid landmarks coincide: this is no face"):
        similarity(np.ones((478, 3)), SIZE, MARGIN)


def test_pixels_lie_where_the_geometry_says(view: Callable[..., np.ndarray]) -> None:
    """A picture whose colours are its coordinates: in the crop, each pixel shows where in the frame it comes from."""
    y, x = np.mgrid[0:240, 0:320] + 0.5
    image = np.stack([x * 0.75, y, np.zeros_like(x)], axis=2).round().astype(np.uint8)
    for scale in (30.0, 90.0):  # smaller in the crop than in the frame, and larger
        points = view(roll=20.0, scale=scale, centre=(160.0, 120.0))
        crop = crop_face(image, points, 64, 0.0).astype(np.float64)
        back = np.linalg.inv(np.vstack([similarity(points, 64, 0.0), (0, 0, 1)]))
        v, u = np.mgrid[8:56, 8:56] + 0.5
        sx, sy, _ = np.tensordot(back, np.stack([u, v, np.ones_like(u)]), axes=1)
        inside = (sx > 4) & (sx < 316) & (sy > 4) & (sy < 236)
        assert inside.mean() > 0.5
        assert np.abs(crop[8:56, 8:56, 0] - sx * 0.75)[inside].max() < 1.5
        assert np.abs(crop[8:56, 8:56, 1] - sy)[inside].max() < 1.5


def test_what_lies_outside_of_the_frame_is_black(view: Callable[..., np.ndarray]) -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    half = crop_face(image, view(scale=60.0, centre=(0.0, 120.0)), SIZE, MARGIN)
    assert half[:, : SIZE // 2 - 4].max() == 0
    assert half[:, SIZE // 2 + 4 :].min() == 200
    assert crop_face(image, view(centre=(2000.0, 120.0)), SIZE, MARGIN).max() == 0
