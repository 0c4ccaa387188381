from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mmsa.scoring.report.thumbnails import SIDE_PIXELS, still, thumbnails


def decoded(address: str) -> np.ndarray:
    head, data = address.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def first_frame_seconds(path: Path) -> float:
    """Where the picture begins on the media's clock, which is the sound's where that begins earlier."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return float(frame.pts * frame.time_base) - (container.start_time or 0) / 1e6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_each_shows_its_moment(make_video: Callable[..., Path], tmp_path: Path, suffix: str) -> None:
    """The grey of `make_video` says which frame is on screen."""
    path = make_video(tmp_path / f"a{suffix}", 8.0)
    found = thumbnails(path, [6.55, 0.0, 3.25, 3.25])
    assert sorted(found) == [0.0, 3.25, 6.55]
    for at, address in found.items():
        late = first_frame_seconds(path)
        frame = max(0, int((at - late) * 10 + 1e-6))
        assert decoded(address).mean() == pytest.approx(40 + 8 * (frame % 20), abs=5), at


def test_they_are_small(make_video: Callable[..., Path], tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 1.0, 1280, 720)
    assert decoded(thumbnails(path, [0.5])[0.5]).shape == (180, SIDE_PIXELS, 3)


def test_moments_without_a_picture_have_none(
    make_video: Callable[..., Path], tmp_path: Path, write_wav: Callable[..., Path]
) -> None:
    assert thumbnails(make_video(tmp_path / "a.mp4", 1.0), [50.0]) == {}
    assert thumbnails(write_wav(tmp_path / "a.wav", [0.5] * 10), [0.5]) == {}


def test_a_still_image_is_itself(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (200, 10, 10)).save(tmp_path / "a.png")
    assert decoded(still(tmp_path / "a.png")).mean(axis=(0, 1)) == pytest.approx([200, 10, 10], abs=4)
