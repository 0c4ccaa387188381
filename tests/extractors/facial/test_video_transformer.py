"""`TransformerFaceVideo` on tiny encoders that are built and saved here, against the models on the same crops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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


class _Several:
    """Finds the faces it is told to, frame by frame."""

    def __init__(self, found: list[list[np.ndarray]]) -> None:
        self.found, self.closed = list(found), False

    def find_all(self, image: np.ndarray) -> list[np.ndarray]:
        return self.found.pop(0)

    def close(self) -> None:
        self.closed = True


class TestAll:
    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_each_face_has_what_the_largest_has_where_it_is_alone(
        self,
        video_encoders: Callable,
        view: Callable[..., np.ndarray],
        monkeypatch: pytest.MonkeyPatch,
        batch_size: int,
    ) -> None:
        """The left one is missing in the third frame; the right one comes with the fourth. Windows of 4, every 2."""
        folder, draw = video_encoders("videomae"), np.random.default_rng(0)
        frames = [draw.integers(0, 255, (480, 640, 3), np.uint8) for _ in range(9)]
        left, right = (
            [view(yaw=3.0 * i, roll=sign * 4.0 * i, scale=50.0, centre=(x, 240.0)) for i in range(9)]
            for x, sign in ((150.0, 1), (480.0, -1))
        )
        seen = [[left[i] if i != 2 else None, right[i] if i >= 3 else None] for i in range(9)]
        extractor = make(folder, faces="all", batch_size=batch_size)
        source = _Several([[points for points in both if points is not None] for both in seen])
        monkeypatch.setattr("extractors.facial.facemesh.open_several_faces", lambda confidence: source)
        encode, sizes = extractor._encoder.encode, list[int]()
        extractor.load()
        monkeypatch.setattr(extractor._encoder, "encode", lambda some: sizes.append(len(some)) or encode(some))
        prepare, prepared = extractor._encoder.prepare, list[int]()
        monkeypatch.setattr(extractor._encoder, "prepare", lambda crop: prepared.append(1) or prepare(crop))
        stream = extractor.stream()
        for index, image in enumerate(frames):
            stream.push(image, [index])
        found = stream.finish()
        assert source.closed
        assert len(prepared) == 8 + 6  # each face of each frame once, however many windows show it

        alone = []
        for who in range(2):
            one = make(folder, faces="largest")
            tracker = _Source([both[who] for both in seen])
            monkeypatch.setattr(one._view.mesh, "open_source", lambda tracker=tracker: tracker)
            stream = one.stream()
            for index, image in enumerate(frames):
                stream.push(image, [index])
            alone.append(stream.finish())
        assert found.names == (*alone[0].names, "track")
        # From frames 0, 2, 4 and 6: both, for the right one is in two of the frames from 2; and the last, cut short.
        assert found.times[:, 0].tolist() == [0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
        assert found.values[:, -1].tolist() == [0, 0, 1, 0, 1, 0, 1]
        for who in range(2):
            mine = found.values[:, -1] == who
            assert np.array_equal(found.times[mine], alone[who].times)
            assert np.allclose(found.values[mine, :-1], alone[who].values, atol=1e-5)
        apart = np.abs(found.values[1::2, :-1] - found.values[2::2, :-1])
        assert apart.max(axis=1).min() > 0.005
        assert sizes == ([1] * 7 if batch_size == 1 else [4, 3])

    def test_a_rendered_clip(
        self, video_encoders: Callable, stage: Any, media: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two who walk past each other, through the detector and the tracks; the left one leaves after three seconds.

        Instead of the model, the red of each frame: skins tell who is shown. Windows of 8 frames at 8 a second.
        """
        extractor = make(video_encoders("videomae"), faces="all", num_frames=8, hop_frames=4, batch_size=3)
        extractor.names = (*(f"red_{k}" for k in range(8)), "track")
        encoder = extractor._encoder
        monkeypatch.setattr(encoder, "load", lambda: None)
        monkeypatch.setattr(encoder, "prepare", lambda crop: float(crop[24:40, 16:48, 0].mean()))
        monkeypatch.setattr(encoder, "encode", lambda windows: np.array(windows, np.float32))
        dark = stage.actor("s15", lambda t: 150 + 200 * t if t < 3 else None, stage.syllables(7, 0, 5))
        bright = stage.actor("s16", lambda t: max(150.0, 750 - 200 * t), stage.syllables(8, 0, 5), in_front=True)

        def clip(name: str, *actors: Any) -> Path:
            return media(name, frames=stage.draw(actors, 5.0), fps=stage.rate)

        both, vision = clip("both.mp4", dark, bright), {"vision": extractor}
        whole = extractors.extract(both, vision).sequences["vision"]
        starts = [np.round(whole.times[whole.values[:, -1] == who, 0] * 2).astype(int) for who in (0, 1)]
        # Of the window from 2.5 s the dark one is in the first half, which ends where it leaves; about frame by frame.
        assert set(starts[0]) - {5} == {0, 1, 2, 3, 4}
        assert starts[1].tolist() == list(range(10))
        for who, actor in ((0, dark), (1, bright)):
            alone = extractors.extract(clip(f"{who}.mp4", actor), vision).sequences["vision"]
            assert set(alone.values[:, -1]) == {0}
            mine = whole.values[whole.values[:, -1] == who]
            assert abs(np.median(mine[:, :-1]) - np.median(alone.values[:, :-1])) < 8
        reds = [np.median(whole.values[whole.values[:, -1] == who, :-1], axis=1) for who in (0, 1)]
        assert reds[1].min() - reds[0].max() > 40  # nobody's window is filled with the other one

        def by_skin(found: extractors.FeatureSequence) -> np.ndarray:
            return found.values[np.lexsort((found.values[:, :-1].mean(axis=1), found.times[:, 0]))]

        # Where the second part begins they have passed each other, so that the bright one is further left.
        for start, end, turned in ((0.6, 2.2, False), (2.8, 5.0, True)):
            part = extractors.extract(both, vision, start_seconds=start, end_seconds=end).sequences["vision"]
            (window,) = extractors.extract_windows(both, vision, [(start, end)])
            expected = whole.between(start, end)
            for found in (part, window.extraction.sequences["vision"]):
                assert np.array_equal(found.times, expected.times)
                ranks = by_skin(expected)[:, -1]
                assert set(ranks) == {0, 1}
                assert by_skin(found)[:, -1].tolist() == (1 - ranks if turned else ranks).tolist()
                assert np.allclose(by_skin(found)[:, :-1], by_skin(expected)[:, :-1], atol=1e-3)

    def test_who_was_hidden_when_a_segment_began_is_known_from_before(
        self,
        video_encoders: Callable,
        view: Callable[..., np.ndarray],
        media: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Two alike, one behind the other from frame 16 on, where the one in front leaves after frame 21.

        Of the window from frame 20 half shows one, half the other; who never saw the second takes it for the first.
        """
        near, far = view(scale=50.0, centre=(300.0, 240.0)), view(scale=50.0, centre=(330.0, 240.0))

        class Staged(_Several):
            def find_all(self, image: np.ndarray) -> list[np.ndarray]:
                index = round(float(image.mean()) / 8)
                return [near] * (index < 22) + [far] * (index < 16 or index >= 22)

        monkeypatch.setattr("extractors.facial.facemesh.open_several_faces", lambda confidence: Staged([]))
        clip = media("behind.mp4", frames=[np.full((480, 640, 3), 8 * i, np.uint8) for i in range(30)], fps=8)
        extractor = make(video_encoders("videomae"), faces="all")
        whole = extractors.extract(clip, {"vision": extractor}).sequences["vision"].between(2.7, 2.8)
        assert whole.times.tolist() == [[2.5, 3.0]] * 2

        def part() -> extractors.FeatureSequence:
            return extractors.extract(clip, {"vision": extractor}, start_seconds=2.7, end_seconds=2.8).sequences[
                "vision"
            ]

        assert np.array_equal(part().times, whole.times)
        assert np.allclose(part().values, whole.values, atol=1e-5)
        extractor.before_seconds -= 2.0
        assert len(part()) == 1  # what this test would not tell if the two were not so alike

    def test_a_still_image_gives_a_step_for_each(self, video_encoders: Callable, stage: Any, tmp_path: Path) -> None:
        actors = [stage.actor(who, lambda t, x=x: x, lambda t: 0.0) for who, x in (("s15", 250.0), ("s16", 650.0))]
        Image.fromarray(stage.draw(actors, 0.1)[0]).save(tmp_path / "two.png")
        found = extractors.extract(tmp_path / "two.png", {"vision": make(video_encoders("videomae"), faces="all")})
        sequence = found.sequences["vision"]
        assert sequence.times.tolist() == [[0.0, 1.0]] * 2
        assert sequence.values[:, -1].tolist() == [0, 1]
        assert np.abs(np.diff(sequence.values[:, :-1], axis=0)).max() > 0.005

    def test_nobody_is_said(self, video_encoders: Callable, media: Callable[..., Path]) -> None:
        blank = media("blank.mp4", frames=[np.full((240, 320, 3), 120, np.uint8)] * 10, fps=10)
        found = extractors.extract(blank, {"vision": make(video_encoders("videomae"), faces="all")})
        assert found.missing == {"vision": "no face found in 8 sampled frames"}


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
        {"faces": "all"},
    ):
        assert make(folder, **change).spec.fingerprint != usual.fingerprint
    assert make(folder, batch_size=2).spec == usual
    assert extractors.rebuild(extractors.ExtractorSpec.from_json(usual.to_json())).spec == usual
    assert "mediapipe" in usual.version


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"faces": "both"},
            r"faces must be one of \('first', 'largest', 'speaking', 'all'\), not 'both'",
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
