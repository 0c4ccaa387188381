import numpy as np
import pytest

from mmsa.demo.face import FacePainter, FaceState
from mmsa.demo.speakers import SPEAKERS

SOME = (0, 3, 9, 14)
"""Every hair style, dark and fair skin, near and far."""


@pytest.fixture(scope="module")
def painters():
    return {index: FacePainter(SPEAKERS[index]) for index in SOME}


def measured(tracker, painter, states):
    """Each state is shown three times, so that the tracker settles."""
    found = tracker([painter.paint(state) for state in states for _ in range(3)])[2::3]
    assert all(found)
    return found


@pytest.mark.parametrize("index", SOME)
def test_a_drawn_smile_is_measured(tracker, painters, index):
    states = [FaceState(smile=value) for value in (-1, -0.5, 0, 0.5, 1)]
    smiles = [face.smile for face in measured(tracker, painters[index], states)]
    assert min(np.diff(smiles)) > 0.02
    assert smiles[-1] > 0.09
    assert smiles[0] < -0.05
    assert abs(smiles[2]) < 0.03


@pytest.mark.parametrize("index", SOME)
def test_an_opening_jaw_is_measured(tracker, painters, index):
    states = [FaceState(jaw=value) for value in (0, 0.25, 0.5, 0.75, 1)]
    gaps = [face.jaw for face in measured(tracker, painters[index], states)]
    assert min(np.diff(gaps)) > 0.03
    assert gaps[0] < 0.03


@pytest.mark.parametrize("index", SOME)
def test_brows_and_lids_are_measured(tracker, painters, index):
    low, rest, high, shut = measured(
        tracker, painters[index], [FaceState(brow=-1), FaceState(), FaceState(brow=1), FaceState(eyes=0)]
    )
    assert low.brow + 0.02 < rest.brow < high.brow - 0.02
    assert shut.eye < 0.7 * rest.eye


def test_rounded_lips_are_narrower(tracker, painters):
    rest, rounded = measured(tracker, painters[0], [FaceState(jaw=0.2), FaceState(jaw=0.2, rounding=1)])
    assert rounded.mouth_width < 0.9 * rest.mouth_width


def test_the_head_turns_and_tilts(tracker, painters):
    left, right, tilted, rest = measured(
        tracker, painters[9], [FaceState(yaw=-0.2), FaceState(yaw=0.2), FaceState(roll=0.15), FaceState()]
    )
    assert left.nose_x < rest.nose_x - 0.03 < rest.nose_x + 0.03 < right.nose_x
    assert tilted.roll - rest.roll == pytest.approx(0.15, abs=0.05)


def test_speakers_differ_less_than_their_expressions(tracker, painters):
    calm, happy = (
        [measured(tracker, painter, [FaceState(smile=smile)])[0].smile for painter in painters.values()]
        for smile in (0.0, 0.6)
    )
    assert min(happy) > max(calm) + 0.02


def test_a_picture_depends_on_its_state_alone(painters):
    painter, state = painters[3], FaceState(smile=0.3, jaw=0.4, yaw=0.1)
    first = painter.paint(state)
    painter.paint(FaceState(smile=-1, brow=1, eyes=0.2, roll=-0.2))
    np.testing.assert_array_equal(painter.paint(state), first)
    np.testing.assert_array_equal(FacePainter(SPEAKERS[3]).paint(state), first)
    assert first.shape == (320, 320, 3)
    assert first.dtype == np.uint8


def test_an_empty_wall_has_no_face(tracker, painters):
    wall = painters[0].paint_empty()
    assert wall.shape == (320, 320, 3)
    assert tracker([wall] * 3) == [None, None, None]
