"""Where samples land on the clock; what an encoder does to them is tested in test_encode.py."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from extractors.media import StreamInfo
from mmsa.scoring.sound import SoundWriter

RATE = 8000


def _frame(level: float, samples: int = 800, rate: int = RATE) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.full((1, samples), level, np.float32), format="fltp", layout="mono")
    frame.sample_rate = rate
    return frame


class _Written(SoundWriter):
    """Keeps what would be encoded."""

    def __init__(self, tmp_path: Path, span: tuple[float, float] = (0.0, math.inf), rate: int = RATE) -> None:
        self.container = av.open(str(tmp_path / "a.mp4"), "w")
        super().__init__(self.container, lambda _: None, StreamInfo("aac", None, "", rate, 1), span, 100.0)
        self.levels: list[np.ndarray] = []
        encode = self._stream.encode

        class Stream:
            @staticmethod
            def encode(frame: av.AudioFrame | None) -> list[object]:
                if frame is not None:
                    assert frame.pts == sum(map(len, self.levels))
                    assert frame.time_base == Fraction(1, self.rate)
                    self.levels.append(frame.to_ndarray()[0])
                return list(encode(frame))

        self._stream = Stream()

    def all(self) -> np.ndarray:
        self.finish()
        return np.concatenate(self.levels)


def test_a_gap_is_silent_and_an_overlap_keeps_what_came_first(tmp_path: Path) -> None:
    sound = _Written(tmp_path)
    sound.feed(_frame(0.25), 0.2)
    sound.feed(_frame(0.5), 0.6)
    sound.feed(_frame(0.75), 0.6)
    found = sound.all()
    assert len(found) == 5600
    assert np.allclose(found[:1600], 0)
    assert np.allclose(found[1600:2400], 0.25, atol=1e-4)
    assert np.allclose(found[2400:4800], 0)
    assert np.allclose(found[4800:], 0.5, atol=1e-4)


def test_rounded_timestamps_leave_no_holes(tmp_path: Path) -> None:
    sound = _Written(tmp_path)
    for k in range(50):
        sound.feed(_frame(0.5), round(k * 0.1, 2) + (0.003 if k % 2 else 0.0))
    found = sound.all()
    assert len(found) == 40_000
    assert np.allclose(found, 0.5, atol=1e-4)


def test_only_the_span_is_written(tmp_path: Path) -> None:
    sound = _Written(tmp_path, (0.25, 0.45))
    for k in range(10):
        if not sound.done:
            sound.feed(_frame(k / 16), k / 10)
    found = sound.all()
    assert len(found) == 1600
    assert np.allclose(found[:400], 2 / 16, atol=1e-4)
    assert np.allclose(found[400:1200], 3 / 16, atol=1e-4)
    assert np.allclose(found[1200:], 4 / 16, atol=1e-4)
    assert sound.end_seconds == pytest.approx(0.45)


def test_timestamps_that_cannot_be_right_are_not_followed(tmp_path: Path) -> None:
    sound = _Written(tmp_path)
    sound.feed(_frame(0.25), 0.0)
    sound.feed(_frame(0.5), 1e9)
    sound.feed(_frame(0.5), None)
    assert len(sound.all()) == 2400


def test_an_odd_rate_becomes_48_khz(tmp_path: Path) -> None:
    sound = _Written(tmp_path, rate=7350)
    sound.feed(_frame(0.5, 735, 7350), 0.0)
    assert sound.rate == 48_000
    assert len(sound.all()) == pytest.approx(4800, abs=2)
