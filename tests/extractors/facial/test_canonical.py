"""The canonical face is a face."""

from __future__ import annotations

import numpy as np
import pytest

from extractors.facial.canonical import LANDMARK_COUNT, LEFT_IRIS, RIGHT_IRIS, RIGID, canonical_face
from extractors.facial.facemesh import _COMPACT


def test_units_axes_and_origin() -> None:
    face = canonical_face()
    assert face.shape == (LANDMARK_COUNT, 3)
    assert np.linalg.norm(face[263] - face[33]) == pytest.approx(1.0)
    assert np.allclose(face[list(RIGID)].mean(axis=0), 0)
    assert face[10, 1] > face[33, 1] > face[1, 1] > face[13, 1] > face[152, 1]  # hairline, eye, nose, lip, chin
    assert face[1, 2] == np.nanmax(face[[1, 33, 61, 152, 234], 2])  # the nose stands out
    assert face[RIGHT_IRIS, 0] < 0 < face[LEFT_IRIS, 0]


def test_symmetric() -> None:
    face = canonical_face()
    listed = face[np.isfinite(face[:, 0])]
    for x, y, z in listed:
        assert np.abs(listed - [-x, y, z]).sum(axis=1).min() < 1e-9


def test_holds_every_landmark_that_is_used() -> None:
    assert np.isfinite(canonical_face()[[*RIGID, *_COMPACT, RIGHT_IRIS, LEFT_IRIS]]).all()


def test_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        canonical_face()[0, 0] = 1.0
