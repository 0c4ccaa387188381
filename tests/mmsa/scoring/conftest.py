from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from mmsa.scoring.results import ModalityScore, Score, TaskScore, WindowScore
from mmsa.scoring.smoothing import smooth
from mmsa.scoring.summary import summarise

EMOTIONS = ("joy", "anger", "neutral")
MakeScore = Callable[..., Score]
MakeVideo = Callable[..., Path]


def _window(number: int, start: float, end: float, *, text: str | None = None) -> WindowScore:
    """Every third window has no face and every seventh nothing at all."""
    wave = math.sin(number / 3)
    joy = 0.1 + 0.6 * (wave + 1) / 2
    if number % 7 == 6:
        gone = {key: ModalityScore(False, f"no {key} in window", 0, 0.0, {}, {}) for key in ("audio", "text", "vision")}
        return WindowScore(number, start, end, modalities=gone, text=text)
    scores = {
        "sentiment": TaskScore(value=round(wave, 5), interval=(round(wave - 0.5, 5), round(wave + 0.5, 5))),
        "emotion": TaskScore(
            label="joy" if joy > 0.45 else "neutral",
            probabilities={"joy": joy, "anger": 0.1, "neutral": 0.9 - joy},
        ),
    }
    face = number % 3 != 2
    alone = {"sentiment": TaskScore(value=0.25), "emotion": TaskScore(label="joy", probabilities={"joy": 0.5})}
    full = {"sentiment": 0.5, "emotion": 0.125}
    modalities = {
        "audio": ModalityScore(True, None, 20, 0.5, {"sentiment": -0.25, "emotion": -0.0625}, alone),
        "text": ModalityScore(True, None, 5, 0.3, full, alone),
        "vision": ModalityScore(True, None, 50, 0.2, full, alone)
        if face
        else ModalityScore(False, f"no face found in {40 + number} sampled frames", 0, 0.0),
    }
    return WindowScore(number, start, end, scores, {}, modalities, text=text)


def make_score_of(path: object, count: int = 12, length: float = 4.0, hop: float = 2.0, **more: object) -> Score:
    windows = smooth([_window(k, k * hop, k * hop + length) for k in range(count)], 2.0 if count > 1 else 0.0)
    seconds = (count - 1) * hop + length
    about = {"digest": "0" * 32, "corpus": "made", "note": "Made for a test.", "calibration": "fitted"}
    given = {"duration_seconds": seconds, "notes": ("one note",), "model": about, "key": "a" * 32, **more}
    return Score(str(path), windows=tuple(windows), summary=summarise(windows), **given)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def make_score() -> MakeScore:
    """`(path, count, length, hop)` → a timeline of two tasks and three modalities, with gaps."""
    return make_score_of


def level_at(frame: int) -> int:
    """The grey that frame `k` of `make_video` shows."""
    return 40 + 8 * (frame % 20)


def write_video(
    path: Path, seconds: float = 8.0, width: int = 96, height: int = 64, rate: int = 10, *, sound: bool = True
) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.options = {"crf": "12", "preset": "ultrafast"}
        audio = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for number in range(round(seconds * rate)):
            picture = np.full((height, width, 3), level_at(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        if audio is not None:
            # A beep of 0.2 s at every whole second.
            at = np.arange(round(seconds * 16000)) / 16000
            tone = np.where(at % 1 < 0.2, 0.5 * np.sin(2 * np.pi * 1000 * at), 0).astype(np.float32)
            for start in range(0, len(tone), 1600):
                piece = av.AudioFrame.from_ndarray(tone[None, start : start + 1600], format="fltp", layout="mono")
                piece.sample_rate, piece.pts = 16000, start
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return path


@pytest.fixture(scope="session")
def make_video() -> MakeVideo:
    """`(path, seconds, width, height, rate, sound=True)` → a video whose grey steps with each frame, beeping."""
    return write_video
