from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from extractors import MediaError
from mmsa.errors import UsageError
from mmsa.scoring import encode
from mmsa.scoring.encode import Plain, find_encoder, rewrite

MakeVideo = Callable[..., Path]


def level_at(frame: int) -> int:
    return 40 + 8 * (frame % 20)


def read(path: Path) -> tuple[list[tuple[float, np.ndarray]], np.ndarray, float]:
    """Frames with their times, and the sound with its first sample's time (both as a player sees them)."""
    frames, pieces, first = [], [], None
    with av.open(str(path)) as container:
        for frame in container.decode():
            at = float(frame.pts * frame.time_base)
            if isinstance(frame, av.VideoFrame):
                frames.append((at, frame.to_ndarray(format="rgb24")))
            else:
                first = at if first is None else first
                pieces.append(frame.to_ndarray()[0])
    return frames, np.concatenate(pieces) if pieces else np.zeros(0), first or 0.0


def onsets(sound: np.ndarray, first: float, rate: int) -> list[float]:
    """Where beeps begin, in seconds: loud after at least a quarter second of quiet."""
    loud = np.flatnonzero(np.abs(sound) > 0.2)
    starts = loud[np.flatnonzero(np.diff(np.concatenate([[-rate], loud])) > rate // 4)]
    return [first + start / rate for start in starts]


def test_pictures_and_sound_stay_where_they_were(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", 4.0)
    target = tmp_path / "out.mp4"
    made = rewrite(source, target, Plain(), metadata={"comment": "hello"})
    assert made.frames == 40
    assert made.codec in encode.ENCODERS
    frames, sound, first = read(target)
    assert [at for at, _ in frames] == pytest.approx([k / 10 for k in range(40)], abs=1e-3)
    assert [picture.mean() for _, picture in frames] == pytest.approx([level_at(k) for k in range(40)], abs=4)
    assert onsets(sound, first, 16000) == pytest.approx([0.0, 1.0, 2.0, 3.0], abs=0.03)
    with av.open(str(target)) as container:
        assert container.metadata["comment"] == "hello"
        assert container.duration / 1e6 == pytest.approx(4.0, abs=0.1)
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_span_is_cut_out(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", 6.0)
    made = rewrite(source, tmp_path / "out.mp4", Plain(), span=(2.5, 4.5))
    frames, sound, first = read(tmp_path / "out.mp4")
    assert made.frames == len(frames) == 20
    assert frames[0][1].mean() == pytest.approx(level_at(25), abs=4)
    assert frames[-1][1].mean() == pytest.approx(level_at(44), abs=4)
    assert onsets(sound, first, 16000) == pytest.approx([0.5, 1.5], abs=0.03)


def write_frames(path: Path, at: list[int], size: tuple[int, int] = (64, 48), codec: str = "libx264") -> Path:
    """A silent video whose frame `k` is shown from `at[k]` milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, start in enumerate(at):
            picture = np.full((size[1], size[0], 3), level_at(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = start, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_variable_frame_rate_stays_one(tmp_path: Path) -> None:
    at = [0, 40, 300, 310, 900, 1700]
    source = write_frames(tmp_path / "in.mkv", at)
    rewrite(source, tmp_path / "out.mp4", Plain())
    frames, _, _ = read(tmp_path / "out.mp4")
    assert [shown for shown, _ in frames] == pytest.approx([one / 1000 for one in at], abs=2e-3)
    assert [picture.mean() for _, picture in frames] == pytest.approx([level_at(k) for k in range(6)], abs=4)


def test_odd_sizes_become_even(tmp_path: Path) -> None:
    source = write_frames(tmp_path / "in.avi", [0, 40, 80], (65, 47), "mpeg4")
    rewrite(source, tmp_path / "out.mp4", Plain())
    frames, _, _ = read(tmp_path / "out.mp4")
    assert frames[0][1].shape == (46, 64, 3)
    assert len(frames) == 3


class _Upper(Plain):
    """Says where the picture is bright."""

    def __init__(self) -> None:
        self.bright: list[tuple[float, float]] = []
        self.shapes: list[tuple[int, ...]] = []

    def paint(self, picture: Any, seconds: float, face: Any) -> Any:
        self.shapes.append(picture.shape)
        rows = np.flatnonzero(picture.mean(axis=(1, 2)) > 128)
        columns = np.flatnonzero(picture.mean(axis=(0, 2)) > 128)
        self.bright.append((float(rows.mean()) if len(rows) else -1.0, float(columns.mean()) if len(columns) else -1.0))
        return super().paint(picture, seconds, face)


def test_a_turned_video_is_painted_upright(tmp_path: Path) -> None:
    """Stored with its right side bright and a display matrix that turns it: the painter sees what a player shows."""
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:, 48:] = 255
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = bytearray(source.read_bytes())
    track = data.index(b"tkhd") + 4
    place = track + 4 + 20 + 8 + 8  # version and flags, times and ids, reserved, layer to volume
    turned = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    data[place : place + 36] = b"".join(one.to_bytes(4, "big", signed=True) for one in turned)
    source.write_bytes(data)
    with av.open(str(source)) as container:
        assert next(container.decode(video=0)).rotation == -90
    painter = _Upper()
    rewrite(source, tmp_path / "out.mp4", painter)
    assert painter.shapes[0] == (64, 32, 3)
    row, _ = painter.bright[0]
    assert row > 45  # turned by a quarter to the right, what was right is below
    frames, _, _ = read(tmp_path / "out.mp4")
    assert frames[0][1].shape == (64, 32, 3)


class _Card(Plain):
    def __init__(self) -> None:
        self.given: list[Any] = []

    def size(self, width: int, height: int) -> tuple[int, int]:
        assert (width, height) == (0, 0)
        return super().size(32, 16)

    def paint(self, picture: Any, seconds: float, face: Any) -> Any:
        self.given.append((picture, seconds))
        return super().paint(picture, seconds, face)


def test_sound_alone_gets_ten_pictures_a_second(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    source = write_wav(tmp_path / "a.wav", [0.0, 0.5] * 10)
    painter = _Card()
    made = rewrite(source, tmp_path / "out.mp4", painter)
    assert made.frames == 20
    assert [at for _, at in painter.given] == pytest.approx([k / 10 for k in range(20)])
    assert all(picture is None for picture, _ in painter.given)
    frames, sound, _ = read(tmp_path / "out.mp4")
    assert len(frames) == 20
    assert len(sound) / 8000 == pytest.approx(2.0, abs=0.3)


def test_the_last_picture_is_held_until_the_sound_ends(tmp_path: Path) -> None:
    """Pictures for 1 s beside sound for 3 s."""
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        pictures, sound = out.add_stream("libx264", rate=10), out.add_stream("aac", rate=16000)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level_at(number), np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            out.mux(pictures.encode(picture))
        out.mux(pictures.encode(None))
        heard = av.AudioFrame.from_ndarray(np.full((1, 48000), 0.1, np.float32), format="fltp", layout="mono")
        heard.sample_rate, heard.pts, heard.time_base = 16000, 0, Fraction(1, 16000)
        out.mux(sound.encode(heard))
        out.mux(sound.encode(None))
    made = rewrite(tmp_path / "in.mkv", tmp_path / "out.mp4", Plain())
    frames, _, _ = read(tmp_path / "out.mp4")
    assert made.frames == len(frames)
    assert len(frames) in (30, 31)  # the encoder of the sound fills up its last block
    assert frames[-1][1].mean() == pytest.approx(level_at(9), abs=4)
    assert frames[29][0] == pytest.approx(2.9, abs=0.01)


def test_nothing_is_left_where_it_fails(make_video: MakeVideo, tmp_path: Path) -> None:
    source, target = make_video(tmp_path / "in.mp4", 2.0), tmp_path / "out.mp4"
    target.write_bytes(b"before")

    class Interrupted(Plain):
        def paint(self, picture: Any, seconds: float, face: Any) -> Any:
            if seconds > 1:
                raise KeyboardInterrupt("by the user")
            return super().paint(picture, seconds, face)

    with pytest.raises(KeyboardInterrupt, match="by the user"):
        rewrite(source, target, Interrupted())
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_what_is_no_media_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0" * 500)
    with pytest.raises(MediaError, match="not readable as media"):
        rewrite(tmp_path / "a.mp4", tmp_path / "out.mp4", Plain())
    assert not (tmp_path / "out.mp4").exists()


def test_frames_wait_for_the_face_but_no_longer_than_it_needs(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", 2.0)
    waiting: list[int] = []

    class Track:
        sound = None

        def __init__(self) -> None:
            self.fed: list[float] = []
            self.asked: list[float] = []
            self.known_seconds = -1.0

        def feed(self, frame: Any, seconds: float) -> None:
            self.fed.append(seconds)
            if len(self.fed) % 4 == 0:
                self.known_seconds = seconds - 0.05
            waiting.append(len(self.fed) - len(self.asked))

        def finish(self) -> None:
            self.known_seconds = np.inf

        def at(self, seconds: float) -> None:
            assert seconds <= self.known_seconds
            self.asked.append(seconds)

    track = Track()
    rewrite(source, tmp_path / "out.mp4", Plain(), track=track)
    assert track.asked == track.fed
    assert len(track.fed) == 20
    assert max(waiting) <= 6


def test_without_an_encoder_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_encoder() in encode.ENCODERS
    monkeypatch.setattr(encode, "ENCODERS", ("nonesuch",))
    with pytest.raises(UsageError, match=r"no encoder of H\.264"):
        find_encoder()
