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
    return HeadPose(*head_angles(points, width, height).tolist())


def head_angles(points: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """`head_pose` of many faces: yaw, pitch and roll in degrees, `(..., 3)` of `(..., 478, 2 or 3)`."""
    import cv2

    model = canonical_face()[_RIGID] * _TO_CAMERA
    focal = float(max(width, height))
    camera = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    images = np.ascontiguousarray(points[..., _RIGID, :2], np.float64)
    rotations, directions = [], []
    for image in images.reshape(-1, len(_RIGID), 2):
        _, rotation, translation = cv2.solvePnP(model, image, camera, None, flags=cv2.SOLVEPNP_SQPNP)
        rotation, translation = cv2.solvePnPRefineLM(model, image, camera, None, rotation, translation)
        rotations.append(cv2.Rodrigues(rotation)[0])
        directions.append(translation[:, 0])
    away = _towards(np.array(directions).reshape(-1, 3))
    return _angles(away.swapaxes(-1, -2) @ np.array(rotations).reshape(-1, 3, 3)).reshape(*points.shape[:-2], 3)


def _towards(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest rotation that takes the optical axis to a direction in front of the camera (Rodrigues' formula).

    `(B, 3, 3)` of `(B, 3)`.
    """
    x, y, z = (directions / np.sqrt((directions**2).sum(axis=-1, keepdims=True))).T
    cross = np.zeros((len(directions), 3, 3))
    cross[:, 0, 2], cross[:, 1, 2], cross[:, 2, 0], cross[:, 2, 1] = x, y, -x, -y
    return np.asarray(np.eye(3) + cross + cross @ cross / (1.0 + z)[:, None, None])


def _angles(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Yaw, pitch and roll `(B, 3)` of rotations `(B, 3, 3)` in camera axes, taken apart in order (Ry · Rx · Rz)."""
    x, y, z = -rotations[:, :, 2].T
    yaw, pitch = np.arctan2(x, -z), np.arcsin(np.clip(-y, -1.0, 1.0))
    roll = np.arctan2(rotations[:, 1, 0], rotations[:, 1, 1])
    return np.asarray(np.degrees(np.stack([yaw, pitch, roll], axis=-1)), np.float64)


@dataclass(frozen=True)
class FrontalFace:
    """A face, or many, with position, size and orientation taken out.

    Attributes:
        points: `(..., 478, 3)`, in the units and axes of `canonical_face`.
        scale_pixels: `(...)`, distance between the outer eye corners, were they seen frontally.
        centre_pixels: `(..., 2)`, image position of the origin.
    """

    points: NDArray[np.float64]
    scale_pixels: NDArray[np.float64]
    centre_pixels: NDArray[np.float64]


def frontal(points: NDArray[np.float64]) -> FrontalFace:
    """Move, scale and turn a face, or each of many, onto the canonical one, by its rigid landmarks.

    The least-squares similarity of Umeyama (1991), in three dimensions, so that the turned face's shape is that of the
    frontal one as far as the landmarks' depth is right.

    Args:
        points: `(..., 478, 3)` landmarks in pixels, x right, y down, z away from the camera, all to one scale.

    Raises:
        ValueError: the rigid landmarks of one coincide.
    """
    target = canonical_face()[_RIGID]
    flipped = points * _TO_CAMERA
    source = flipped[..., _RIGID, :]
    centre, target_centre = source.mean(axis=-2, keepdims=True), target.mean(axis=0)
    centred = source - centre
    spread = (centred**2).sum(axis=(-2, -1))
    if (spread <= 0.0).any():
        raise ValueError("the rigid landmarks coincide: this is no face; leave the frame out")
    u, singular, vt = np.linalg.svd((target - target_centre).T @ centred)
    sign = np.ones_like(singular)
    sign[..., 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[..., None, :]) @ vt
    scale = (singular * sign).sum(axis=-1) / spread
    aligned = scale[..., None, None] * (flipped - centre) @ rotation.swapaxes(-1, -2) + target_centre
    return FrontalFace(aligned, 1.0 / scale, points[..., _RIGID, :2].mean(axis=-2))
