"""Each measure answers to its own movement, and to no turn of the head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extractors.facial.expression import EXPRESSION_NAMES, expression
from extractors.facial.head_pose import frontal

RIGHT, LEFT, UP = np.array([-1.0, 0, 0]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def measure(face: np.ndarray) -> dict[str, float]:
    return dict(zip(EXPRESSION_NAMES, expression(face).tolist(), strict=True))


def test_the_neutral_face_measures_nothing(neutral: np.ndarray) -> None:
    assert np.allclose(expression(neutral), 0)


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ({61: 0.1 * UP, 291: 0.1 * UP}, {"smile": 0.1, "mouth_corner_lift_right": 0.1, "mouth_corner_lift_left": 0.1}),
        ({61: 0.1 * RIGHT, 291: 0.1 * LEFT}, {"smile": 0.1, "mouth_width": 0.2}),
        (
            {61: -0.1 * UP, 291: -0.1 * UP},
            {"smile": -0.1, "mouth_corner_lift_right": -0.1, "mouth_corner_lift_left": -0.1},
        ),
        ({291: 0.2 * UP}, {"mouth_corner_asymmetry": 0.2, "mouth_corner_lift_left": 0.2}),
        ({17: -0.1 * UP}, {"lip_thickness_lower": 0.1}),
        ({152: -0.2 * UP}, {"jaw_drop": 0.2}),
        (
            {107: 0.1 * UP, 336: 0.1 * UP},
            {"brow_inner_raise_right": 0.1, "brow_inner_raise_left": 0.1, "brow_asymmetry": 0},
        ),
        ({300: 0.1 * UP}, {"brow_outer_raise_left": 0.1, "brow_outer_raise_right": 0, "brow_asymmetry": 0.05}),
        ({55: 0.02 * LEFT, 285: 0.02 * RIGHT}, {"brow_furrow": 0.04}),
        ({205: 0.1 * UP, 425: 0.1 * UP}, {"cheek_raise": 0.1}),
        ({468: 0.05 * LEFT, 473: 0.05 * LEFT}, {"gaze_up": 0}),
    ],
)
def test_movements(neutral: np.ndarray, moves: dict[int, np.ndarray], expected: dict[str, float]) -> None:
    for index, move in moves.items():
        neutral[index] += move
    found = measure(neutral)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.02 if "thickness" in name or "jaw" in name else 1e-3)


def test_open_mouth_and_closed_eyes(neutral: np.ndarray) -> None:
    opened = neutral.copy()
    before = np.linalg.norm(neutral[13] - neutral[14])
    opened[14] += (neutral[14] - neutral[13]) * 2
    assert measure(opened)["mouth_opening"] == pytest.approx(2 * before)
    winking = neutral.copy()
    for upper, lower in ((160, 144), (158, 153)):
        winking[upper] = winking[lower]
    found = measure(winking)
    assert found["eye_aperture_right"] < -0.15
    assert found["eye_aperture_left"] == pytest.approx(0)
    assert found["eye_asymmetry"] == pytest.approx(-found["eye_aperture_right"])


def test_gaze_is_in_eye_widths(neutral: np.ndarray) -> None:
    for iris, a, b in ((468, 33, 133), (473, 362, 263)):
        width = np.linalg.norm((neutral[b] - neutral[a])[:2])
        neutral[iris, 0] += 0.2 * width
    found = measure(neutral)
    assert found["gaze_right"] == pytest.approx(0.2, abs=1e-3)
    # The eyes' axes slope a little, in mirrored directions.
    assert found["gaze_up"] == pytest.approx(0.0, abs=1e-3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    yaw=st.floats(-60, 60), pitch=st.floats(-40, 40), roll=st.floats(-90, 90), scale=st.floats(10, 400),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_neither_turning_nor_distance_changes_a_measure(
    view: Callable, neutral: np.ndarray, yaw: float, pitch: float, roll: float, scale: float, seed: int
) -> None:
    moving = [61, 291, 0, 13, 14, 17, 152, 107, 336, 70, 300, 55, 285, 159, 145, 386, 374, 468, 473]
    face = neutral.copy()
    face[moving] += np.random.default_rng(seed).normal(0, 0.04, (len(moving), 3))
    turned = frontal(view(face, yaw=yaw, pitch=pitch, roll=roll, scale=scale))
    assert np.allclose(expression(turned.points), expression(face), atol=1e-6)
