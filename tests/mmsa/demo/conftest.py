"""Measuring instruments: a face mesh on single pictures, and a video's frames and sound."""

from dataclasses import dataclass

import av
import numpy as np
import pytest


@dataclass(frozen=True)
class Measured:
    """Distances on a face, relative to the distance between the outer eye corners."""

    smile: float
    mouth_width: float
    jaw: float
    brow: float
    eye: float
    roll: float
    nose_x: float


def measure(landmarks):
    """Landmark indices are those of MediaPipe's canonical face model."""
    points = np.array([[point.x, point.y] for point in landmarks])
    left, right = points[33], points[263]
    scale = np.linalg.norm(right - left)
    up = points[10] - points[152]
    up /= np.linalg.norm(up)

    def gap(a, b):
        return float(np.linalg.norm(points[a] - points[b]) / scale)

    lips, corners = (points[13] + points[14]) / 2, (points[61] + points[291]) / 2
    brows, lids = (points[105] + points[334]) / 2, (points[133] + points[362]) / 2
    across = (right - left) / scale
    return Measured(
        smile=float((corners - lips) @ up / scale),
        mouth_width=gap(61, 291),
        jaw=gap(13, 14),
        brow=float((brows - lids) @ up / scale),
        eye=(gap(159, 145) + gap(386, 374)) / 2,
        roll=float(np.arctan2(across[1], across[0])),
        nose_x=float((points[1] - (left + right) / 2) @ across / scale),
    )


@pytest.fixture(scope="session")
def tracker():
    """`tracker(pictures)` -> one `Measured` or None per picture, followed from picture to picture."""
    import mediapipe as mp

    def follow(pictures):
        with mp.solutions.face_mesh.FaceMesh(static_image_mode=False, refine_landmarks=True, max_num_faces=1) as mesh:
            found = [mesh.process(picture).multi_face_landmarks for picture in pictures]
        return [measure(faces[0].landmark) if faces else None for faces in found]

    return follow


def read_video(path):
    """Frames (n, h, w, 3) uint8 and samples (m,) float32 or None."""
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return frames, None
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return frames, samples


@pytest.fixture(scope="session")
def read():
    return read_video
