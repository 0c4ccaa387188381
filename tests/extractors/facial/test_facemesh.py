"""`FaceMesh` on a real photograph, and on landmarks from a stand-in."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extractors.errors import ToolError
from extractors.facial.canonical import canonical_face
from extractors.facial.facemesh import SEVERAL, WHICH, FaceMesh
from extractors.registry import build, rebuild

View = Callable[..., np.ndarray]


class Script:
    """A landmark source that answers from a list."""

    def __init__(self, answers: list[np.ndarray | None]) -> None:
        self.answers, self.closed = answers, 0

    def find(self, image: np.ndarray) -> np.ndarray | None:
        return self.answers.pop(0)

    def close(self) -> None:
        self.closed += 1


def scripted(extractor: FaceMesh, monkeypatch: pytest.MonkeyPatch, answers: list[np.ndarray | None]) -> Script:
    script = Script(answers)
    monkeypatch.setattr(extractor, "open_source", lambda: script)
    return script


def look(extractor: FaceMesh, *images: np.ndarray) -> np.ndarray:
    stream = extractor.stream()
    for k, image in enumerate(images):
        stream.push(image, [k])
    return stream.finish().values


def named(extractor: FaceMesh, row: np.ndarray) -> dict[str, float]:
    return dict(zip(extractor.names, row.tolist(), strict=True))


def test_the_astronaut_smiles_into_the_camera(astronaut: np.ndarray) -> None:
    extractor = FaceMesh()
    row = named(extractor, look(extractor, astronaut)[0])
    neutral = named(
        extractor, extractor.describe(np.nan_to_num(canonical_face()) * [60, -60, -60] + [225, 120, 0], 512, 512)
    )
    assert neutral["smile"] == pytest.approx(0, abs=1e-6)
    assert row["smile"] > 0.15
    assert row["mouth_width"] > 0.1
    assert abs(row["roll_degrees"]) < 6
    assert abs(row["yaw_degrees"]) < 12
    # The face is in the upper middle, and the eyes' outer corners are some 60 pixels apart.
    assert row["face_x"] == pytest.approx((225 - 256) / 512, abs=0.03)
    assert row["face_y"] == pytest.approx((256 - 115) / 512, abs=0.04)
    assert row["face_size"] == pytest.approx(61 / 512, abs=0.02)


def test_a_frown_is_drawn_by_turning_the_corners_down(view: View, neutral: np.ndarray) -> None:
    extractor = FaceMesh()
    neutral[[61, 291], 1] -= 0.08
    assert named(extractor, extractor.describe(view(neutral), 640, 480))["smile"] == pytest.approx(-0.08, abs=1e-4)


def test_tilting_the_picture_tilts_the_head_and_little_else(astronaut: np.ndarray) -> None:
    import cv2

    extractor = FaceMesh(landmarks="none")
    turn = cv2.getRotationMatrix2D((225, 120), -20, 1.0)
    upright, tilted = look(extractor, astronaut)[0], look(extractor, cv2.warpAffine(astronaut, turn, (512, 512)))[0]
    assert tilted[2] - upright[2] == pytest.approx(20, abs=3)
    assert np.abs(tilted[6:] - upright[6:]).max() < 0.05


def test_a_distant_person_is_found(astronaut: np.ndarray) -> None:
    """The face takes a fourteenth of the width, too little for the mesh's own detector."""
    room = np.full((720, 1280, 3), 90, np.uint8)
    room[100:612, 700:1212] = astronaut
    extractor = FaceMesh(landmarks="none")
    near, far = look(extractor, astronaut)[0], look(extractor, room, room)
    assert len(far) == 2
    assert named(extractor, far[0])["face_x"] == pytest.approx((700 + 225 - 640) / 1280, abs=0.01)
    assert np.abs(far[0, :3] - near[:3]).max() < 8
    assert np.abs(far[0, 6:] - near[6:]).max() < 0.06


def test_frames_without_a_face_are_gaps(monkeypatch: pytest.MonkeyPatch, view: View) -> None:
    extractor = FaceMesh(frames_per_second=5.0)
    script = scripted(extractor, monkeypatch, [view(), None, view(yaw=10), np.full((478, 3), np.nan)])
    stream = extractor.stream()
    image = np.zeros((480, 640, 3), np.uint8)
    for indices in ([4], [5], [6, 7], [8]):
        stream.push(image, indices)
    sequence = stream.finish()
    assert sequence.times.tolist() == [[0.8, 1.0], [1.2, 1.4], [1.4, 1.6]]
    assert np.array_equal(sequence.values[1], sequence.values[2])
    assert sequence.values[1, 0] == pytest.approx(10, abs=2)
    assert script.closed == 1
    stream.close()
    assert script.closed == 1
    with pytest.raises(RuntimeError, match="this stream is finished: ask the extractor for a fresh one"):
        stream.push(image, [9])


@pytest.mark.parametrize(
    ("indices", "reason"),
    [
        ([], "no frame could be sampled"),
        ([[0]], "no face found in 1 sampled frame"),
        ([[0], [1, 2]], "no face found in 3 sampled frames"),
    ],
)
def test_no_face_at_all(monkeypatch: pytest.MonkeyPatch, indices: list[list[int]], reason: str) -> None:
    extractor = FaceMesh()
    scripted(extractor, monkeypatch, [None] * len(indices))
    stream = extractor.stream()
    for own in indices:
        stream.push(np.zeros((48, 64, 3), np.uint8), own)
    assert stream.finish().values.shape == (0, len(extractor.names))
    assert stream.missing_reason() == reason


def test_clips_do_not_influence_each_other(astronaut: np.ndarray) -> None:
    extractor = FaceMesh()
    first = look(extractor, astronaut, astronaut[:, ::-1])
    look(extractor, astronaut[::-1])
    assert np.array_equal(look(extractor, astronaut, astronaut[:, ::-1]), first)


def crowd(view: View, count: int) -> np.ndarray:
    """`(count, 478, 3)`: faces of all sizes and directions, none quite a face."""
    rng = np.random.default_rng(3)
    turned = [view(yaw=y, pitch=p, roll=r, scale=s) for y, p, r, s in rng.uniform([-40, -30, -50, 20], 60, (count, 4))]
    return np.stack(turned) + rng.normal(size=(count, 478, 3))


@pytest.mark.parametrize("together", [1, 2, 7, 31, 40])
def test_a_face_is_described_the_same_in_any_company(view: View, together: int) -> None:
    """Bit for bit, so that it does not matter how many frames wait."""
    extractor, faces = FaceMesh(landmarks="all"), crowd(view, 40)
    alone = np.stack([extractor.describe(face, 640, 480) for face in faces])
    batches = [extractor.describe(faces[i : i + together], 640, 480) for i in range(0, 40, together)]
    assert np.array_equal(np.concatenate(batches), alone)
    assert len(np.unique(alone, axis=0)) == 40


def test_every_frame_found_gets_its_own_face(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 frames, some without a face, some shown twice, half of them in another size; windows are asked in between."""
    extractor, faces = FaceMesh(), crowd(view, 80)
    answers = [None if k % 5 == 3 else face for k, face in enumerate(faces)]
    scripted(extractor, monkeypatch, list(answers))
    stream = extractor.stream()
    stream.expect_windows()
    expected, index, shown = [], 0, []
    for k, face in enumerate(answers):
        width, height = (640, 480) if k < 40 else (320, 200)
        times = 1 + (k % 3 == 0)
        stream.push(np.zeros((height, width, 3), np.uint8), list(range(index, index + times)))
        if face is not None:
            expected += [extractor.describe(face, width, height)] * times
            shown += range(index, index + times)
        index += times
        if k == 17:
            early, _ = stream.window(0.0, 1.0)
            assert np.array_equal(early.values, np.stack(expected[: sum(at < 10 for at in shown)]))
    found = stream.finish()
    assert np.array_equal(found.values, np.stack(expected))
    assert np.allclose(found.times[:, 0] * 10, shown)


@pytest.mark.parametrize(("landmarks", "count"), [("none", 0), ("compact", 2 * 27), ("all", 3 * 478)])
def test_landmark_subsets(view: View, landmarks: str, count: int) -> None:
    extractor = FaceMesh(landmarks=landmarks)
    row = extractor.describe(view(yaw=20, scale=50), 640, 480)
    assert len(row) == len(extractor.names) == 30 + count
    values = named(extractor, row)
    if count:
        assert values["landmark_61_x"] == pytest.approx(canonical_face()[61, 0], abs=1e-5)
        assert values["landmark_152_y"] == pytest.approx(canonical_face()[152, 1], abs=1e-5)


def test_a_task_file_is_known_by_its_contents(tmp_path: Path) -> None:
    first, moved = tmp_path / "a.task", tmp_path / "elsewhere.task"
    first.write_bytes(b"a model")
    moved.write_bytes(b"a model")
    digest = hashlib.sha256(b"a model").hexdigest()
    extractor = FaceMesh(landmarker_path=str(first))
    assert extractor.spec.parameters["landmarker_sha256"] == digest
    assert extractor.spec.hints == {"landmarker_path": str(first)}
    assert extractor.spec.fingerprint != FaceMesh().spec.fingerprint
    assert rebuild(extractor.spec, landmarker_path=str(moved)).spec == extractor.spec
    moved.write_bytes(b"another")
    with pytest.raises(ToolError, match=rf"has the SHA-256 [0-9a-f]+, but {digest} is required"):
        rebuild(extractor.spec, landmarker_path=str(moved))
    with pytest.raises(ToolError, match=r"nowhere\.task': no such file; download"):
        build("facial.facemesh", landmarker_path=str(tmp_path / "nowhere.task"))
    with pytest.raises(ToolError, match=r"a\.task is not a face landmarker that MediaPipe can load"):
        extractor.stream()


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"landmarks must be one of \('compact', 'all', 'none'\), not 'some'"):
        FaceMesh(landmarks="some")
    with pytest.raises(ValueError, match=r"frames_per_second must be a number from 0.1 to 120, not 0"):
        FaceMesh(frames_per_second=0)


def test_nothing_is_written_to_the_error_stream(face_video: Path) -> None:
    code = (
        f"import extractors; extractors.extract({str(face_video)!r}, {{'vision': extractors.build('facial.facemesh')}})"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:extractors", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""


class TestSeveral:
    def test_every_choice_is_rebuilt_from_its_spec(self) -> None:
        prints = set()
        for faces in WHICH:
            extractor = FaceMesh(faces=faces, frames_per_second=4.0)
            again = rebuild(extractor.spec)
            assert again.spec == extractor.spec
            assert again.names == extractor.names
            prints.add(extractor.spec.fingerprint)
        assert len(prints) == len(WHICH)

    def test_only_the_speaker_is_listened_for_and_in_frames_close_enough(self) -> None:
        """Ten a second or more, in whole multiples of the steps asked for."""
        for steps, frames in ((10.0, 10.0), (4.0, 12.0), (3.0, 12.0), (25.0, 25.0), (0.5, 10.0)):
            speaking, everybody = (FaceMesh(faces=faces, frames_per_second=steps) for faces in ("speaking", "all"))
            assert speaking.frames_per_second == pytest.approx(frames)
            assert speaking.spec.parameters["frames_per_second"] == steps
            assert speaking.listens_at_hz == 8000
            assert everybody.frames_per_second == steps
            assert everybody.listens_at_hz is None
            assert everybody.before_seconds == everybody.after_seconds == 0.0
        assert FaceMesh(faces="speaking").before_seconds == 3.5
        assert FaceMesh(faces="speaking").after_seconds == pytest.approx(1.3)
        assert FaceMesh(faces="all").names == (*FaceMesh().names, "track")
        assert FaceMesh(faces="speaking").names == FaceMesh().names

    def test_what_does_not_go_together_is_refused(self, tmp_path: Path) -> None:
        task = tmp_path / "a.task"
        task.write_bytes(b"a model")
        for faces in SEVERAL:
            with pytest.raises(ValueError, match=f"min_tracking_confidence has no effect with faces='{faces}'"):
                FaceMesh(faces=faces, min_tracking_confidence=0.7)
            with pytest.raises(ValueError, match=f"faces='{faces}' needs FaceMesh and its detector"):
                FaceMesh(faces=faces, landmarker_path=str(task))
            with pytest.raises(ValueError, match=f"faces='{faces}' follows several faces: use stream_of_several"):
                FaceMesh(faces=faces).open_source()
