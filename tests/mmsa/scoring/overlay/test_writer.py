from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from extractors import MediaError
from mmsa.errors import UsageError
from mmsa.scoring.overlay import face_tracker, write_overlay
from mmsa.scoring.overlay.panel import Panel
from mmsa.scoring.overlay.writer import read_key
from mmsa.scoring.results import Score

MakeScore = Callable[..., Score]
MakeVideo = Callable[..., Path]


def _frames(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(one.pts * one.time_base), one.to_ndarray(format="rgb24")) for one in container.decode(video=0)]


def _playhead(picture: np.ndarray) -> float:
    """Where the white line crosses the timeline."""
    grey = picture[-45:-33].min(axis=2).mean(axis=0)  # bars of the timeline are coloured, so one channel is dark
    near = np.arange(max(0, int(grey.argmax()) - 2), min(len(grey), int(grey.argmax()) + 3))
    return float((near * grey[near]).sum() / grey[near].sum())


def test_every_frame_keeps_its_time_and_the_playhead_moves_with_it(
    make_score: MakeScore, make_video: MakeVideo, tmp_path: Path
) -> None:
    video = make_video(tmp_path / "a.mp4", 8.0)
    score = make_score(video, 3)
    made = write_overlay(score, tmp_path / "out")
    assert (made.path, made.frames, made.kept) == (tmp_path / "out.mp4", 80, False)
    assert made.notes == ("no face mesh: the model follows no face",)
    frames = _frames(made.path)
    assert [at for at, _ in frames] == pytest.approx([k / 10 for k in range(80)], abs=2e-3)
    panel = Panel(score, 640)
    left, right = panel.track_span
    for at, picture in frames[::7]:
        assert _playhead(picture) == pytest.approx(left + at / 8 * (right - left), abs=2), at
    level = 40 + 8 * (33 % 20)
    assert frames[33][1][100:200, 250:400].mean() == pytest.approx(level, abs=4)
    with av.open(str(made.path)) as container:
        sound = np.concatenate([one.to_ndarray()[0] for one in container.decode(audio=0)])
    loud = np.flatnonzero(np.abs(sound) > 0.2) / 16000
    starts = loud[np.flatnonzero(np.diff(np.concatenate([[-1.0], loud])) > 0.25)]
    assert starts == pytest.approx(np.arange(8.0), abs=0.1)  # within a frame


def test_the_mesh_lies_on_the_face_of_a_photograph(make_score: MakeScore, tmp_path: Path) -> None:
    """A real face, moving to the right: pixels change on it, with it, and nowhere else."""
    skimage = pytest.importorskip("skimage.data")
    from extractors.facial.facemesh import FaceMesh

    photograph = skimage.astronaut()[:400, :480]
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.options = 640, 400, "yuv420p", {"crf": "10"}
        for number in range(12):
            picture = np.full((400, 640, 3), 128, np.uint8)
            picture[:, 10 * number : 10 * number + 480] = photograph
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    score = make_score(path, 1, 1.2)
    plain = _frames(write_overlay(score, tmp_path / "plain").path)
    meshed = _frames(write_overlay(replace(score, key="b"), tmp_path / "mesh", FaceMesh()).path)
    assert len(plain) == len(meshed) == 12
    for number in (2, 6, 11):
        apart = np.abs(plain[number][1][:400].astype(int) - meshed[number][1][:400]).max(axis=2)
        rows, columns = np.nonzero(apart > 60)
        assert len(rows) > 300
        # The face is at about (226, 115) in the photograph, a hundred pixels wide.
        assert np.median(columns) == pytest.approx(226 + 10 * number, abs=25)
        assert np.median(rows) == pytest.approx(115, abs=35)
        assert np.percentile(columns, 98) - np.percentile(columns, 2) < 170
    assert np.abs(plain[6][1][400:].astype(int) - meshed[6][1][400:]).max() < 60  # the panel is the same


def test_a_segment_begins_at_its_start(make_score: MakeScore, make_video: MakeVideo, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", 8.0)
    whole = make_score(video, 1, 3.0)
    window = replace(whole.windows[0], start_seconds=3.0, end_seconds=6.0)
    score = replace(whole, start_seconds=3.0, end_seconds=6.0, windows=(window,))
    frames = _frames(write_overlay(score, tmp_path / "out").path)
    assert len(frames) == 30
    left, right = Panel(score, 640).track_span
    assert _playhead(frames[0][1]) == pytest.approx(left, abs=2)
    assert _playhead(frames[-1][1]) == pytest.approx(left + 2.9 / 3 * (right - left), abs=2)
    assert frames[0][1][100:200, 250:400].mean() == pytest.approx(40 + 8 * (30 % 20), abs=4)


def test_what_is_there_of_the_same_row_is_kept(make_score: MakeScore, make_video: MakeVideo, tmp_path: Path) -> None:
    score = make_score(make_video(tmp_path / "a.mp4", 1.0), 1, 1.0)
    first = write_overlay(score, tmp_path / "out")
    assert read_key(first.path) == score.key
    before = first.path.stat().st_ino
    assert write_overlay(score, tmp_path / "out").kept
    assert first.path.stat().st_ino == before
    assert not write_overlay(replace(score, key="c" * 32), tmp_path / "out").kept
    assert read_key(first.path) == "c" * 32
    first.path.write_bytes(b"torn")
    assert read_key(first.path) == ""
    assert not write_overlay(replace(score, key=""), tmp_path / "out").kept


def test_sound_gets_a_card_and_a_still_image_a_picture(
    make_score: MakeScore, tmp_path: Path, write_wav: Callable[..., Path]
) -> None:
    sound = write_wav(tmp_path / "a.wav", [0.5] * 20)
    frames = _frames(write_overlay(make_score(sound, 1, 2.0), tmp_path / "sound").path)
    assert len(frames) == 20
    Image.new("RGB", (200, 150), (10, 200, 30)).save(tmp_path / "b.png")
    score = make_score(tmp_path / "b.png", 1, 0.0)
    made = write_overlay(score, tmp_path / "still")
    assert (made.path.name, made.codec) == ("still.png", "png")
    with Image.open(made.path) as image:
        assert image.getpixel((image.width // 2, 20)) == (10, 200, 30)
    assert write_overlay(score, tmp_path / "still").kept


def test_what_cannot_be_drawn_is_refused(make_score: MakeScore, make_video: MakeVideo, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", 1.0)
    with pytest.raises(UsageError, match="would replace the media itself"):
        write_overlay(make_score(video, 1), tmp_path / "a")
    with pytest.raises(UsageError, match="has no scores to draw: broken"):
        write_overlay(Score("a.mp4", error="broken"), tmp_path / "b")
    with pytest.raises(UsageError, match="media on this machine"):
        write_overlay(make_score("s3://b/a.mp4", 1), tmp_path / "b")
    with pytest.raises(MediaError, match="No such file"):
        write_overlay(make_score(tmp_path / "gone.mp4", 1), tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]


def test_the_tracker_is_the_models() -> None:
    import extractors as ex

    mesh = ex.build("facial.facemesh")
    assert face_tracker({"text": ex.build("text.lexical"), "vision": mesh}) is mesh
    assert face_tracker({"text": ex.build("text.lexical")}) is None
