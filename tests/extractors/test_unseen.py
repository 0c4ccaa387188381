"""Pictures that nobody looks at are left out, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extractors.frame_sampler import FrameSampler
from extractors.media import MediaFile
from extractors.unseen import UnseenFrames

Make = Callable[..., Path]


class Watcher(FrameSampler):
    """A sampler that counts what it is fed and reads the number off what it samples."""

    def __init__(self, number_of: Callable[[np.ndarray], int], fps: float, **options: Any) -> None:
        self.seen: dict[int, int] = {}
        self.fed: list[float | None] = []

        def push(image: np.ndarray, indices: Sequence[int]) -> None:
            self.seen.update(dict.fromkeys(indices, number_of(image)))

        super().__init__(fps, 640, push, **options)

    def feed(self, frame: Any, seconds: float | None) -> None:
        self.fed.append(seconds)
        super().feed(frame, seconds)


def watched(path: Path, number_of: Callable[[np.ndarray], int], fps: float, *, spare: bool, **options: Any) -> Watcher:
    watcher = Watcher(number_of, fps, **options)
    with pytest.MonkeyPatch.context() as patch, MediaFile(path) as file:
        if not spare:
            patch.setattr(UnseenFrames, "can", staticmethod(lambda stream: False))
        watcher.report = file.decode(None, watcher)  # type: ignore[attr-defined]
    return watcher


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize("fps", [2.0, 7.0, 25.0])
def test_the_same_is_seen_and_less_is_decoded(
    media: Make,
    numbered: Callable[..., list[np.ndarray]],
    number_of: Callable[[np.ndarray], int],
    codec: str,
    fps: float,
) -> None:
    """200 frames at 25 a second: at `k / fps` frame `floor(25 k / fps)` is on screen."""
    made_for = {"libx264": "x.mp4", "libx265": "x.mkv", "mpeg4": "x.avi"}
    path = media(made_for[codec], frames=numbered(200), fps=25, video_codec=codec, gop=50)
    spared, whole = (watched(path, number_of, fps, spare=spare) for spare in (True, False))
    assert spared.seen == whole.seen == {k: int(25 * k / fps + 1e-6) for k in range(int(8 * fps))}
    assert len(whole.fed) == 200
    assert spared.end_seconds == whole.end_seconds
    assert spared.report == whole.report  # type: ignore[attr-defined]
    if fps == 25.0:  # all are looked at
        assert spared.fed == whole.fed
    elif codec in ("libx264", "libx265"):  # whose encoders make pictures that no other needs
        assert len(spared.fed) < 160


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(10, 180), min_size=30, max_size=60), st.sampled_from([1.0, 4.0, 10.0]), st.integers(0, 400))
def test_with_frames_of_any_duration(
    media: Make,
    numbered: Callable[..., list[np.ndarray]],
    number_of: Callable[[np.ndarray], int],
    gaps_ms: list[int],
    fps: float,
    first_ms: int,
) -> None:
    """Each frame carries its number; the schedule says which one is on screen at `k / fps`."""
    starts = first_ms + np.cumsum([0, *gaps_ms[:-1]])
    path = media("vfr.mp4", frames=numbered(len(starts), width=160, height=90), frame_seconds=list(starts / 1000))
    spared, whole = (watched(path, number_of, fps, spare=spare) for spare in (True, False))
    assert spared.seen == whole.seen
    last = max(whole.seen)
    shown = (starts - starts[0]) / 1000  # a file's clock begins with its first frame
    expected = {k: int(np.flatnonzero(shown <= k / fps + 0.0011)[-1]) for k in range(last + 1)}
    assert spared.seen == expected


def test_a_part_of_a_file(
    media: Make, numbered: Callable[..., list[np.ndarray]], number_of: Callable[[np.ndarray], int]
) -> None:
    """What lies before the first instant wanted is looked at by nobody."""
    path = media("part.mp4", frames=numbered(200), fps=25, gop=200)
    part = watched(path, number_of, 25.0, spare=True, first_index=150, end_index=160)
    assert part.seen == {k: k for k in range(150, 160)}
    assert len(part.fed) < 140


@pytest.mark.parametrize(
    ("codec", "rate", "can"),
    [("libx264", 25, True), ("libx264", 2, False), ("ffv1", 25, False), ("libvpx-vp9", 25, False)],
)
def test_which_streams(
    media: Make, numbered: Callable[..., list[np.ndarray]], codec: str, rate: int, can: bool
) -> None:
    path = media("which.mkv", frames=numbered(4), fps=rate, video_codec=codec)
    with MediaFile(path) as file:
        assert UnseenFrames.can(file.container.streams.video[0]) == can
