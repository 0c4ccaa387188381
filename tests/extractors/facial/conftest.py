"""A neutral face to be turned, moved and pulled about."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from extractors.facial.canonical import canonical_face


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Turn a face in camera axes (x right, y down, z away): nose to the right, then up, then clockwise; in degrees."""
    a, b, c = np.radians([-yaw, -pitch, roll])
    around_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    around_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    around_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return around_y @ around_x @ around_z


def seen(
    face: np.ndarray | None = None,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    scale: float = 100.0,
    centre: tuple[float, float] = (320.0, 240.0),
    focal: float | None = None,
) -> np.ndarray:
    """Landmarks in pixels `(478, 3)` of a face in canonical axes; through a pinhole if `focal` is given."""
    points = (canonical_face() if face is None else face) * [1, -1, -1]
    points = np.nan_to_num(points) @ rotation(yaw, pitch, roll).T * scale
    if focal is not None:
        points = points * (1.0 / (1.0 + points[:, 2:] / focal))
    return points + np.array([*centre, 0.0])


@pytest.fixture
def view() -> Callable[..., np.ndarray]:
    """See `seen`."""
    return seen


@pytest.fixture
def neutral() -> np.ndarray:
    """A copy of the canonical face, free to be changed; unlisted landmarks lie at the origin."""
    return np.nan_to_num(canonical_face().copy())
