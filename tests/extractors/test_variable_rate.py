"""Which frame is on screen when: real files of any timing, each frame carrying its own number, read back.

The schedule is drawn first; what must be sampled follows from it and from the definition alone: at `k / fps`, counted
from where the file begins, the last frame whose time has come.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extractors.audio_track import AudioTrack
from extractors.frame_sampler import FrameSampler
from extractors.media import MediaFile

TURNS = {0: 0, 90: 3, 180: 2, 270: 1}
"""By clockwise turns of the frame as it was filmed: the quarter turns against the clock that set it upright."""
ROUNDED = 1.1
"""Milliseconds that a container may have added to a timestamp; see `extractors.frame_sampler`."""
WIDTH, HEIGHT = 128, 64

files = settings(deadline=None, max_examples=30, derandomize=True, suppress_health_check=list(HealthCheck))
# Of fewer reordered frames FFmpeg cannot tell where a Matroska file begins, and its clock is taken from 0.
gaps = st.lists(st.integers(5, 900), min_size=4, max_size=40)
rates = st.sampled_from([1.0, 5.0, 10.0, 12.5, 30.0])


def write(
    path: Path,
    images: Sequence[np.ndarray],
    starts_ms: Sequence[int],
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    sound_from_ms: int | None = None,
) -> bool:
    """Write frames that are shown from those times, and 0.2 s of sound from another; whether frames were reordered."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=1000, options={"bf": "2", "g": "12", **(options or {})})
        video.width, video.height = WIDTH, HEIGHT
        video.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        audio = None if sound_from_ms is None else out.add_stream("pcm_s16le", rate=8000, layout="mono")
        packets = []
        for image, at in zip(images, starts_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            packets += video.encode(frame)
        packets += video.encode(None)
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(np.full((1, 1600), 5000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, sound_from_ms * 8, Fraction(1, 8000)
            packets += audio.encode(frame)
        pictures = [p for p in packets if p.stream is video and p.dts is not None]
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    order = [p.pts for p in pictures]
    return order != sorted(order)


def turn(path: Path, angle: int) -> None:
    """Write a clockwise rotation into the track header's matrix (ISO/IEC 14496-12, 8.3.2)."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[angle]
    data = bytearray(path.read_bytes())
    box = data.index(b"tkhd")
    assert data[box + 4] == 0
    data[box + 44 : box + 80] = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def sampled(path: Path, fps: float, read: Callable[[np.ndarray], int], angle: int = 0) -> dict[int, int]:
    """The number of the frame that is sampled, by `k`."""
    found: dict[int, int] = {}

    def push(image: np.ndarray, indices: Sequence[int]) -> None:
        assert image.shape == ((HEIGHT, WIDTH, 3) if angle % 180 == 0 else (WIDTH, HEIGHT, 3))
        number = read(np.rot90(image, -TURNS[angle]))
        for k in indices:
            assert k not in found
            found[k] = number

    with MediaFile(path) as media:
        report = media.decode(None, FrameSampler(fps, 320, push))
    assert report.complete
    assert report.decode_errors == 0
    return found


def on_screen(starts_ms: Sequence[int], begin_ms: int, fps: float) -> dict[int, int]:
    """By the definition, for every `k` before the last frame: its number. `begin_ms` is where the file begins."""
    shown = {}
    for k in range(int((starts_ms[-1] - begin_ms) / 1000 * fps) + 2):
        at = begin_ms + k / fps * 1000 + ROUNDED
        if starts_ms[0] <= at < starts_ms[-1]:
            shown[k] = max(i for i, start in enumerate(starts_ms) if start <= at)
    return shown


def check(found: dict[int, int], starts_ms: Sequence[int], begin_ms: int, fps: float) -> None:
    expected = on_screen(starts_ms, begin_ms, fps)
    last = len(starts_ms) - 1
    assert {k: number for k, number in found.items() if number != last} == expected
    # How long the last frame is shown is the container's to say; that it is shown next and without a gap is not.
    after = sorted(k for k, number in found.items() if number == last)
    first = max(expected, default=None)
    if first is not None and after:
        assert after == list(range(first + 1, first + 1 + len(after)))


@files
@given(gaps_ms=gaps, fps=rates, first_ms=st.integers(0, 3000))
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mov", "mpeg4"), ("a.mkv", "ffv1"), ("a.webm", "libvpx")],
)
def test_any_timing_in_any_container(
    numbered: Callable, number_of: Callable, name: str, codec: str, gaps_ms: list[int], fps: float, first_ms: int
) -> None:
    """The picture alone: the file begins with its first frame, whatever its clock says there."""
    starts = (first_ms + np.cumsum([0, *gaps_ms[:-1]])).tolist()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, numbered(len(starts), width=WIDTH, height=HEIGHT), starts, codec=codec)
        check(sampled(path, fps, number_of), starts, first_ms, fps)


@files
@given(
    gaps_ms=gaps,
    fps=rates,
    first_ms=st.integers(0, 2000),
    sound_ms=st.integers(0, 2000),
    angle=st.sampled_from([*TURNS]),
)
def test_a_telephone_that_was_turned_and_whose_sound_began_first(
    numbered: Callable, number_of: Callable, gaps_ms: list[int], fps: float, first_ms: int, sound_ms: int, angle: int
) -> None:
    """Sound and picture begin at times of their own; the file begins with whichever was first."""
    starts = (first_ms + np.cumsum([0, *gaps_ms[:-1]])).tolist()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phone.mov"
        write(path, numbered(len(starts), width=WIDTH, height=HEIGHT), starts, sound_from_ms=sound_ms)
        turn(path, angle)
        begin = min(first_ms, sound_ms)
        check(sampled(path, fps, number_of, angle), starts, begin, fps)
        assert heard_from(path) == pytest.approx((sound_ms - begin) / 1000, abs=0.003)


def heard_from(path: Path) -> float:
    """Where the sound begins on the media's clock."""
    blocks: list[np.ndarray] = []
    with MediaFile(path) as media:
        media.decode(AudioTrack(16000, blocks.append), None)
    return float(np.flatnonzero(np.abs(np.concatenate(blocks)) > 0.07)[0] / 16000)


def test_the_files_of_these_tests_have_their_frames_out_of_order(numbered: Callable, tmp_path: Path) -> None:
    """Otherwise nothing here would say anything of B-frames."""
    images = [np.roll(image, k, axis=1) for k, image in enumerate(numbered(30, width=WIDTH, height=HEIGHT))]
    assert write(tmp_path / "a.mp4", images, [k * 37 for k in range(30)])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("bframes", ["0", "3"])
def test_compressed_sound_does_not_move_the_picture(
    media: Callable, make_tone: Callable, numbered: Callable, number_of: Callable, name: str, bframes: str
) -> None:
    """AAC begins before 0 with what its decoder needs to settle; where the container tells, the picture begins at 0."""
    path = media(name, frames=numbered(50), samples=make_tone(2.0), options={}, video_options={"bf": bframes})
    found: dict[int, int] = {}
    with MediaFile(path) as file:
        file.decode(None, FrameSampler(25.0, 320, lambda im, ks: found.update(dict.fromkeys(ks, number_of(im)))))
    assert found == {k: k for k in range(50)}
