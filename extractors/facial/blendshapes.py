"""The 52 blendshape scores of MediaPipe Tasks' `FaceLandmarker`: their names, and whether a file has them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
BLENDSHAPE_NAMES = tuple(f"blendshape_{name.strip('_')}" for name in _SHAPES)
"""Feature names, in MediaPipe's order of categories: `blendshape_neutral`, its `_neutral`, is the first."""

_MODEL = "face_blendshapes.tflite"


def has_blendshapes(task: Path) -> bool:
    """Whether a `.task` file holds the model that scores blendshapes; it is an archive of models."""
    if not zipfile.is_zipfile(task):
        return False
    with zipfile.ZipFile(task) as archive:
        return _MODEL in archive.namelist()


def scores(categories: Sequence[Any]) -> NDArray[np.float32]:
    """`(52,)` scores of one face.

    Args:
        categories: as `FaceLandmarker` gives them; it leaves out those whose score is not above 0.
    """
    found = np.zeros(len(_SHAPES), np.float32)
    for category in categories:
        found[category.index] = category.score
    return found
