"""Where the head is and which way it turns; and the same face seen straight from the front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extractors.facial.canonical import RIGID, canonical_face

_RIGID = list(RIGID)
# From the canonical axes (y up, z out of the face) to a camera's (y down, z away from the camera).
_TO_CAMERA = np.array([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class HeadPose:
    """Orientation of the head towards the camera, all zero when it looks straight into it.

    Attributes:
        yaw_degrees: positive when the nose turns to the image's right (the subject's left).
        pitch_degrees: positive when the nose points up.
        roll_degrees: positive when the head tilts clockwise in the image.
    """

    yaw_degrees: float
    pitch_degrees: float
    roll_degrees: float


def head_pose(points: NDArray[np.float64], width: int, height: int) -> HeadPose:
    """Head pose from the landmarks' image positions (depth is not used).

    Perspective-n-point by SQPnP (Terzakis & Lourakis 2020) on the rigid landmarks of the canonical face, refined by
    Levenberg-Marquardt. The camera is unknown: a pinhole with the image's longer side as focal length (a field of
    view of 53°) and the optical axis in its middle. The angles are towards the camera, not towards the image plane:
    the angle under which a face off the axis is seen is taken out, so that they hardly depend on the unknown focal
    length or on how the frame was cropped.

    Args:
        points: `(478, 2 or 3)` landmarks in pixels.
        width: width of the whole frame in pixels.
        height: height of the whole frame in pixels.
    """
    import cv2

    model = canonical_face()[_RIGID] * _TO_CAMERA
    image = np.ascontiguousarray(points[_RIGID, :2], np.float64)
    focal = float(max(width, height))
    camera = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    _, rotation, translation = cv2.solvePnP(model, image, camera, None, flags=cv2.SOLVEPNP_SQPNP)
    rotation, translation = cv2.solvePnPRefineLM(model, image, camera, None, rotation, translation)
    return pose_of(_towards(translation.ravel()).T @ cv2.Rodrigues(rotation)[0])


def _towards(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest rotation that takes the optical axis to a direction in front of the camera (Rodrigues' formula)."""
    x, y, z = direction / np.linalg.norm(direction)
    cross = np.array([[0.0, 0.0, x], [0.0, 0.0, y], [-x, -y, 0.0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1.0 + z))


def pose_of(rotation: NDArray[np.float64]) -> HeadPose:
    """Angles of a rotation `(3, 3)` in camera axes, taken apart as yaw, then pitch, then roll (Ry · Rx · Rz)."""
    forward = -rotation[:, 2]
    return HeadPose(
        yaw_degrees=float(np.degrees(np.arctan2(forward[0], -forward[2]))),
        pitch_degrees=float(np.degrees(np.arcsin(np.clip(-forward[1], -1.0, 1.0)))),
        roll_degrees=float(np.degrees(np.arctan2(rotation[1, 0], rotation[1, 1]))),
    )


@dataclass(frozen=True)
class FrontalFace:
    """A face with position, size and orientation taken out.

    Attributes:
        points: `(478, 3)`, in the units and axes of `canonical_face`.
        scale_pixels: distance between the outer eye corners, were they seen frontally.
        centre_pixels: `(2,)` image position of the origin.
    """

    points: NDArray[np.float64]
    scale_pixels: float
    centre_pixels: NDArray[np.float64]


def frontal(points: NDArray[np.float64]) -> FrontalFace:
    """Move, scale and turn a face onto the canonical one, by its rigid landmarks.

    The least-squares similarity of Umeyama (1991), in three dimensions, so that the turned face's shape is that of the
    frontal one as far as the landmarks' depth is right.

    Args:
        points: `(478, 3)` landmarks in pixels, x right, y down, z away from the camera, all to one scale.

    Raises:
        ValueError: the rigid landmarks coincide.
    """
    target = canonical_face()[_RIGID]
    flipped = points * _TO_CAMERA
    source = flipped[_RIGID]
    centre, target_centre = source.mean(axis=0), target.mean(axis=0)
    centred = source - centre
    spread = (centred**2).sum()
    if spread <= 0.0:
        raise ValueError("the rigid landmarks coincide: this is no face; leave the frame out")
    u, singular, vt = np.linalg.svd((target - target_centre).T @ centred)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = (singular * sign).sum() / spread
    aligned = scale * (flipped - centre) @ rotation.T + target_centre
    return FrontalFace(aligned, 1.0 / scale, points[_RIGID, :2].mean(axis=0))
