"""Head pose and the frontal face, on faces turned by known angles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extractors.facial.canonical import RIGID, canonical_face
from extractors.facial.head_pose import frontal, head_pose

View = Callable[..., np.ndarray]
ANGLES = {"yaw": st.floats(-45, 45), "pitch": st.floats(-35, 35), "roll": st.floats(-60, 60)}
LISTED = np.isfinite(canonical_face()[:, 0])
# The fixture is a pure function.
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(**ANGLES, scale=st.floats(20, 120), x=st.floats(300, 340), y=st.floats(220, 260))
def test_pose_is_recovered(view: View, yaw: float, pitch: float, roll: float, scale: float, x: float, y: float) -> None:
    """Through a pinhole of the assumed focal length, near the axis."""
    points = view(yaw=yaw, pitch=pitch, roll=roll, scale=scale, centre=(x, y), focal=640.0)
    pose = head_pose(points, 640, 480)
    assert pose.yaw_degrees == pytest.approx(yaw, abs=3.0)
    assert pose.pitch_degrees == pytest.approx(pitch, abs=3.0)
    assert pose.roll_degrees == pytest.approx(roll, abs=3.0)


@pytest.mark.parametrize(
    ("turned", "expected"),
    [
        ({"yaw": 30}, (30, 0, 0)),
        ({"pitch": 20}, (0, 20, 0)),
        ({"roll": 25}, (0, 0, 25)),
        ({"yaw": -20, "pitch": -15, "roll": -10}, (-20, -15, -10)),
    ],
)
def test_pose_on_the_axis(view: View, turned: dict, expected: tuple) -> None:
    pose = head_pose(view(**turned, focal=640.0), 640, 480)
    assert (pose.yaw_degrees, pose.pitch_degrees, pose.roll_degrees) == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("focal_factor", [0.7, 1.0, 2.0])
def test_a_wrong_focal_length_costs_little(view: View, focal_factor: float) -> None:
    pose = head_pose(view(yaw=20, pitch=10, focal=640.0 * focal_factor), 640, 480)
    assert (pose.yaw_degrees, pose.pitch_degrees) == pytest.approx((20, 10), abs=3.0)


@pytest.mark.parametrize("centre", [(100.0, 100.0), (540.0, 400.0)])
def test_a_face_at_the_side_that_looks_into_the_camera_is_not_turned(view: View, centre: tuple[float, float]) -> None:
    """Its nose points along the line of sight."""
    x, y, focal = centre[0] - 320, centre[1] - 240, 640.0
    yaw, pitch = -np.degrees(np.arctan2(x, focal)), np.degrees(np.arctan2(y, np.hypot(x, focal)))
    distance = 10.0
    points = (view(yaw=yaw, pitch=pitch, scale=1.0, centre=(0.0, 0.0))) + distance * np.array([x, y, focal]) / focal
    projected = points * (focal / points[:, 2:]) + [320.0, 240.0, 0.0]
    pose = head_pose(projected, 640, 480)
    assert (pose.yaw_degrees, pose.pitch_degrees) == pytest.approx((0.0, 0.0), abs=1.0)


@RELAXED
@given(**ANGLES, scale=st.floats(5, 500), x=st.floats(-900, 900), y=st.floats(-900, 900))
def test_frontal_undoes_any_turn(
    view: View, yaw: float, pitch: float, roll: float, scale: float, x: float, y: float
) -> None:
    face = frontal(view(yaw=yaw, pitch=pitch, roll=roll, scale=scale, centre=(x, y)))
    assert np.allclose(face.points[LISTED], canonical_face()[LISTED], atol=1e-6)
    assert face.scale_pixels == pytest.approx(scale)
    assert face.centre_pixels == pytest.approx((x, y), abs=1e-6)


def test_frontal_keeps_the_expression(view: View, neutral: np.ndarray) -> None:
    neutral[61] += [-0.05, 0.07, 0.0]
    face = frontal(view(neutral, yaw=30, roll=-20, scale=80))
    assert face.points[61] == pytest.approx(neutral[61], abs=1e-9)


def test_no_mirror_images() -> None:
    """A reflection is no rotation: its landmarks cannot all be met."""
    mirrored = canonical_face() * [-1, 1, 1]
    points = np.nan_to_num(mirrored * [1, -1, -1])
    points[list(RIGID), 0] += np.linspace(0, 0.3, len(RIGID))
    assert np.linalg.norm(frontal(points).points[263] - canonical_face()[263]) > 0.1


def test_a_point_is_no_face() -> None:
    with pytest.raises(ValueError, match="coincide: this is no face; leave the frame out"):
        frontal(np.ones((478, 3)))
