"""`TransformerFaceVideo` on tiny encoders that are built and saved here, against the models on the same crops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import extractors
from extractors.facial.video_transformer import TransformerFaceVideo


def make(folder: Path, **changes: object) -> TransformerFaceVideo:
    return TransformerFaceVideo(model=str(folder), **{"crop_pixels": 64, "device": "cpu", **changes})  # type: ignore[arg-type]


class _Source:
    """Finds what it is told to: the landmarks of the nth frame, or nobody."""

    def __init__(self, found: list[np.ndarray | None]) -> None:
        self.found, self.closed = list(found), False

    def find(self, image: np.ndarray) -> np.ndarray | None:
        return self.found.pop(0)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("kind", ["videomae", "timesformer"])
def test_equals_the_model_on_the_crops(
    video_encoders: Callable, view: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Of eight frames the second shows nobody and the sixth a broken face; windows are four long, every two."""
    folder, draw = video_encoders(kind), np.random.default_rng(0)
    extractor = make(folder)
    frames = [draw.integers(0, 255, (480, 640, 3), np.uint8) for _ in range(8)]
    points = [view(yaw=4.0 * i, roll=5.0 * i, centre=(300.0 + 5 * i, 240.0)) for i in range(8)]
    source = _Source([points[0], None, *points[2:5], np.full_like(points[5], np.nan), *points[6:]])
    monkeypatch.setattr(extractor._view.mesh, "open_source", lambda: source)
    stream = extractor.stream()
    for index, image in enumerate(frames):
        stream.push(image, [index])
    found = stream.finish()
    assert source.closed

    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    crops = [Image.fromarray(extractor._view.crop(*pair)) for pair in zip(frames, points, strict=True)]
    expected = []
    for window in ([0, 0, 2, 3], [2, 3, 4, 4], [4, 4, 6, 7], [6, 7, 7, 7]):
        pixels = processor([crops[i] for i in window], return_tensors="pt")
        with torch.no_grad():
            states = model(**pixels).last_hidden_state[0]
        expected.append((states[1:] if kind == "timesformer" else states).mean(0).numpy())
    assert np.allclose(found.values, np.stack(expected), atol=1e-5)
    assert found.times.tolist() == [[0.0, 0.5], [0.25, 0.75], [0.5, 1.0], [0.75, 1.0]]
    assert np.abs(np.diff(found.values, axis=0)).max(axis=1).min() > 0.005


def test_windows_with_nobody_in_most_frames_give_no_step(video_encoders: Callable, face_video: Path) -> None:
    """A face for a second, nobody for one, a face for one, at eight frames a second: through FaceMesh itself."""
    whole = extractors.extract(face_video, {"vision": make(video_encoders("videomae"), batch_size=1)})
    found = whole.sequences["vision"]
    # Half of the window from 0.75 s shows the face, and half of that from 1.75 s.
    assert found.times[:, 0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.75, 2.0, 2.25, 2.5, 2.75]
    assert found.times[-1].tolist() == [2.75, 3.0]
    rolling = {"vision": make(video_encoders("videomae"), batch_size=4)}
    windows = list(extractors.extract_windows(face_video, rolling, extractors.Sliding(1.0, 1.0)))
    for window in windows:
        wanted = found.between(window.start_seconds, window.end_seconds)
        sequence = window.extraction.sequences["vision"]
        assert np.array_equal(sequence.times, wanted.times)
        assert np.allclose(sequence.values, wanted.values, atol=1e-5)
    (window,) = extractors.extract_windows(face_video, rolling, [(1.3, 1.6)])
    # Those whose middle lies there: from 1.25, 1.375 and 1.5 s.
    assert window.extraction.missing == {"vision": "no face found in 3 sampled frames"}


def test_a_segment_has_the_steps_of_the_whole(
    video_encoders: Callable, face_video: Path, view: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tracker that needs no start: frames around the segment are looked at for the windows' sake."""
    extractor = make(video_encoders("videomae"), hop_frames=1)
    points = view(centre=(250.0, 200.0))
    monkeypatch.setattr(extractor._view.mesh, "open_source", lambda: _Source([points] * 24))
    whole = extractors.extract(face_video, {"vision": extractor}).sequences["vision"]
    part = extractors.extract(face_video, {"vision": extractor}, start_seconds=0.8, end_seconds=1.9)
    wanted = whole.between(0.8, 1.9)
    assert len(wanted) == 9
    assert np.array_equal(part.sequences["vision"].times, wanted.times)
    assert np.allclose(part.sequences["vision"].values, wanted.values, atol=1e-5)


class TestSpeaking:
    """Two drawn people: the left one speaks until 4 s, then the right one, whose skin is 96 of 255 brighter in red."""

    @pytest.fixture
    def reds(self, video_encoders: Callable, monkeypatch: pytest.MonkeyPatch) -> TransformerFaceVideo:
        """Windows of 4 frames, one after the other, at 4 a second; instead of the model, the red of each frame."""
        extractor = make(video_encoders("videomae"), faces="speaking", frames_per_second=4.0, hop_frames=4)
        assert extractor.frames_per_second == 12.0
        extractor.names = tuple(f"red_{k}" for k in range(4))
        encoder = extractor._encoder
        monkeypatch.setattr(encoder, "load", lambda: None)
        monkeypatch.setattr(encoder, "prepare", lambda crop: float(crop[24:40, 16:48, 0].mean()))
        monkeypatch.setattr(encoder, "encode", lambda windows: np.array(windows, np.float32))
        return extractor

    def test_each_frame_of_a_window_shows_who_speaks(self, reds: TransformerFaceVideo, talk: Path) -> None:
        found = extractors.extract(talk, {"vision": reds}, end_seconds=8.0).sequences["vision"]
        assert found.times.tolist() == [[k, k + 1.0] for k in range(8)]
        left, right = found.values[:3], found.values[5:]
        assert right.min() - left.max() > 40
        middle = (right.min() + left.max()) / 2
        first = int(np.argmax(found.values.ravel() > middle))
        assert (found.values.ravel() > middle).tolist() == [k >= first for k in range(32)]  # one change, for good
        assert 12 <= first <= 20  # a second around the fourth

    def test_parts_and_windows_have_the_steps_of_the_whole(self, reds: TransformerFaceVideo, talk: Path) -> None:
        whole = extractors.extract(talk, {"vision": reds}).sequences["vision"]
        part = extractors.extract(talk, {"vision": reds}, start_seconds=2.2, end_seconds=7.3)
        wanted = whole.between(2.2, 7.3)
        assert np.array_equal(part.sequences["vision"].times, wanted.times)
        assert np.allclose(part.sequences["vision"].values, wanted.values)
        assert len(wanted) == 5
        for window in extractors.extract_windows(talk, {"vision": reds}, extractors.Sliding(3.0, 3.0)):
            wanted = whole.between(window.start_seconds, window.end_seconds)
            sequence = window.extraction.sequences["vision"]
            assert np.array_equal(sequence.times, wanted.times)
            assert np.allclose(sequence.values, wanted.values)

    def test_without_sound_it_is_said(self, reds: TransformerFaceVideo, talk: Path, tmp_path: Path) -> None:
        import av

        silent = tmp_path / "silent.mp4"
        with av.open(str(talk)) as source, av.open(str(silent), "w") as copy:
            (pictures,) = source.streams.video
            stream = copy.add_stream_from_template(pictures)
            for packet in source.demux(pictures):
                if packet.dts is not None:
                    packet.stream = stream
                    copy.mux(packet)
        found = extractors.extract(silent, {"vision": reds}, end_seconds=3.0)
        assert found.notes == ("without sound nobody can tell which of several faces speaks: the largest stands in",)
        assert len(found.sequences["vision"]) == 3


def test_what_changes_numbers_changes_the_fingerprint(video_encoders: Callable) -> None:
    folder = video_encoders("timesformer")
    usual = make(folder).spec
    for change in (
        {"pooling": "cls"},
        {"num_frames": 2},
        {"hop_frames": 1},
        {"margin": 0.3},
        {"faces": "first"},
        {"faces": "speaking"},
    ):
        assert make(folder, **change).spec.fingerprint != usual.fingerprint
    assert make(folder, batch_size=2).spec == usual
    assert extractors.rebuild(extractors.ExtractorSpec.from_json(usual.to_json())).spec == usual
    assert "mediapipe" in usual.version


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"faces": "all"},
            r"faces must be one of \('first', 'largest', 'speaking'\), not 'all': a window shows one face",
        ),
        ({"batch_size": 0}, "batch_size must be a number from 1 to 4096, not 0"),
        ({"margin": -1}, "margin must be a number from 0 to 2, not -1"),
    ],
)
def test_parameters_are_checked(video_encoders: Callable, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(video_encoders("videomae"), **change)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
