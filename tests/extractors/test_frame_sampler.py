"""Which frames are picked, and how they are turned and scaled."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.frame_sampler import HOLD_SECONDS, FrameSampler, UprightFrames, in_memory, upright_size


def video_frame(level: int, width: int = 32, height: int = 16) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((height, width, 3), level, np.uint8), format="rgb24")


def sample(
    seconds: list[float], fps: float, last_seconds: float | None = None, **options: object
) -> tuple[dict[int, int], FrameSampler]:
    """Which frame (by position in `seconds`) is picked for which index."""
    picked: dict[int, int] = {}

    def push(image: np.ndarray, indices: range) -> None:
        for k in indices:
            assert k not in picked
            picked[k] = int(image[0, 0, 0])

    sampler = FrameSampler(fps, 64, push, **options)  # type: ignore[arg-type]
    for i, at in enumerate(seconds):
        frame = video_frame(i)
        if last_seconds is not None and i == len(seconds) - 1:
            frame.duration, frame.time_base = round(last_seconds * 1000), Fraction(1, 1000)
        sampler.feed(frame, at)
    sampler.finish()
    return picked, sampler


def test_ten_of_twenty_five_frames() -> None:
    picked, _ = sample([i / 25 for i in range(25)], 10.0)
    assert picked == {0: 0, 1: 2, 2: 5, 3: 7, 4: 10, 5: 12, 6: 15, 7: 17, 8: 20, 9: 22}


@given(
    st.lists(st.integers(5, 900), min_size=1, max_size=40),
    st.sampled_from([1.0, 5.0, 10.0, 12.5, 25.0]),
    st.integers(0, 300),
)
def test_the_frame_on_screen_is_picked(gaps_ms: list[int], fps: float, first_ms: int) -> None:
    """Against the definition: at `k / fps` the last frame whose time has come, up to the end of the last."""
    starts = first_ms + np.cumsum([0, *gaps_ms[:-1]])
    end = starts[-1] + gaps_ms[-1]
    picked, _ = sample([s / 1000 for s in starts], fps, last_seconds=gaps_ms[-1] / 1000)
    expected = {}
    for k in range(int(end / 1000 * fps) + 2):
        at = k / fps * 1000 + 1.1  # timestamps may be rounded up by a millisecond
        if starts[0] <= at < end:
            expected[k] = int(np.flatnonzero(starts <= at)[-1])
    assert picked == expected


def test_an_end_and_a_beginning() -> None:
    picked, sampler = sample([i / 25 for i in range(50)], 10.0, first_index=3, end_index=6)
    assert picked == {3: 7, 4: 10, 5: 12}
    assert sampler.done


def test_a_still_picture_is_held_only_so_long() -> None:
    picked, _ = sample([0.0, 100.0], 1.0)
    assert sorted(picked) == [*range(int(HOLD_SECONDS)), 100]


def test_impossible_timestamps_are_left_out_and_counted() -> None:
    picked, sampler = sample([0.0, 0.1, 1e9, 0.05, 0.2], 10.0, latest_seconds=60.0)
    assert picked == {0: 0, 1: 1, 2: 4}
    assert sampler.misplaced == 2


def test_pixels_that_are_not_square_and_scaling() -> None:
    shapes = []
    for aspect in (1.0, 2.0, 0.5):
        sampler = FrameSampler(1.0, 64, lambda image, _: shapes.append(image.shape), aspect=aspect)
        sampler.feed(video_frame(7, width=100, height=100), 0.0)
        sampler.finish()
    assert shapes == [(64, 64, 3), (32, 64, 3), (64, 32, 3)]


def test_small_frames_are_not_enlarged() -> None:
    images: list[np.ndarray] = []
    sampler = FrameSampler(1.0, 64, lambda image, _: images.append(image))
    sampler.feed(video_frame(200), 0.0)
    sampler.finish()
    assert images[0].shape == (16, 32, 3)
    assert (images[0] == 200).all()


class Fetched:
    """A frame as it lies on a GPU, as far as fetching it goes: its format there is the software's of another name."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame, self.sw_format = frame, frame.format

    def __getattr__(self, name: str) -> object:
        return getattr(self._frame, name)


@pytest.mark.parametrize(
    ("planar", "on_device"), [("yuv420p", "nv12"), ("yuv420p10le", "p010le"), ("yuv420p12le", "p016le")]
)
@pytest.mark.parametrize("span", [0, 1, 2])
def test_what_a_gpu_decoded_gives_the_cpus_picture_to_the_last_bit(
    astronaut: np.ndarray, planar: str, on_device: str, span: int
) -> None:
    """The layouts that NVDEC gives, unscaled and scaled, whatever is said of the range."""
    frame = av.VideoFrame.from_ndarray(astronaut, format="rgb24").reformat(format=planar)
    same = frame.reformat(format=on_device)
    frame.color_range = same.color_range = span
    assert in_memory(frame) is frame
    assert in_memory(Fetched(same)).format.name == planar
    for side in (4096, 256, 211):
        upright = UprightFrames(side)
        assert np.array_equal(upright.convert(Fetched(same)), upright.convert(frame))


def test_only_sampled_frames_are_converted() -> None:
    """Of 25 frames a second 5: with frames on a GPU, nothing else is fetched."""
    converted: list[int] = []
    given: list[object] = []

    def convert(frame: av.VideoFrame) -> str:
        converted.append(frame.pts)
        return f"picture {frame.pts}"

    sampler = FrameSampler(5.0, 64, lambda image, indices: given.append((image, list(indices))), convert=convert)
    for i in range(25):
        frame = video_frame(i)
        frame.pts = i
        sampler.feed(frame, i / 25)
    sampler.finish()
    assert converted == [0, 5, 10, 15, 20]
    assert given == [(f"picture {5 * k}", [k]) for k in range(5)]


@pytest.mark.parametrize(
    ("frame", "side", "aspect", "expected"),
    [
        ((1920, 1080), 1280, 1.0, (1280, 720)),
        ((640, 480), 1280, 1.0, (640, 480)),
        ((720, 480), 4096, 32 / 27, (853, 480)),  # pixels wider than high: wider
        ((720, 576), 4096, 0.5, (720, 1152)),  # and higher
        ((3000, 1), 300, 1.0, (300, 1)),
    ],
)
def test_sizes(frame: tuple[int, int], side: int, aspect: float, expected: tuple[int, int]) -> None:
    assert upright_size(*frame, side, aspect) == expected
