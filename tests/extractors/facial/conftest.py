"""A neutral face to be turned, moved and pulled about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extractors.facial.canonical import canonical_face


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Turn a face in camera axes (x right, y down, z away): nose to the right, then up, then clockwise; in degrees."""
    a, b, c = np.radians([-yaw, -pitch, roll])
    around_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    around_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    around_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return around_y @ around_x @ around_z


def seen(
    face: np.ndarray | None = None,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    scale: float = 100.0,
    centre: tuple[float, float] = (320.0, 240.0),
    focal: float | None = None,
) -> np.ndarray:
    """Landmarks in pixels `(478, 3)` of a face in canonical axes; through a pinhole if `focal` is given."""
    points = (canonical_face() if face is None else face) * [1, -1, -1]
    points = np.nan_to_num(points) @ rotation(yaw, pitch, roll).T * scale
    if focal is not None:
        points = points * (1.0 / (1.0 + points[:, 2:] / focal))
    return points + np.array([*centre, 0.0])


@pytest.fixture
def view() -> Callable[..., np.ndarray]:
    """See `seen`."""
    return seen


@pytest.fixture
def neutral() -> np.ndarray:
    """A copy of the canonical face, free to be changed; unlisted landmarks lie at the origin."""
    return np.nan_to_num(canonical_face().copy())


STAGE_RATE = 10
STAGE_SIZE = (320, 900)
_CUT = slice(70, 250)


@dataclass(frozen=True)
class Actor:
    """A drawn face on the stage.

    Attributes:
        who: a speaker of the demo corpus's cast.
        x: where its middle is at a time, in pixels from the left; None while it is away.
        jaw: how far the mouth is open at a time, 0 to 1.
        in_front: whether it hides the others.
    """

    who: str
    x: Callable[[float], float | None]
    jaw: Callable[[float], float]
    in_front: bool = False


def syllables(seed: int, start: float, end: float) -> Callable[[float], float]:
    """A mouth that opens and closes at irregular instants between two times, and is shut else."""
    rng, bumps, now = np.random.default_rng(seed), [], start
    while now < end - 0.3:
        length = rng.uniform(0.25, 0.5)
        bumps.append((now, min(now + length, end), rng.uniform(0.5, 1.0)))
        now += length + rng.choice([0.0, 0.1, 0.35])

    def jaw(seconds: float) -> float:
        return sum(high * np.sin(np.pi * (seconds - a) / (b - a)) ** 2 for a, b, high in bumps if a <= seconds < b)

    return jaw


def voice(jaws: Sequence[Callable[[float], float]], seconds: float, rate: int = 16000) -> np.ndarray:
    """A tone with harmonics that is as loud as these mouths are open, over faint noise: `(N,)`."""
    coarse = np.arange(round(seconds * 200) + 1) / 200
    opening = np.array([sum(jaw(float(at)) for jaw in jaws) for at in coarse])
    t = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 180.0 * k * t) / k for k in range(1, 6))
    noise = np.random.default_rng(5).normal(0.0, 3e-4, len(t))
    return (0.3 * np.interp(t, coarse, opening) * tone + noise).astype(np.float32)


@cache
def _painter(who: str) -> Any:
    from mmsa.demo.face import FacePainter
    from mmsa.demo.speakers import speaker_named

    return FacePainter(speaker_named(who))


def draw_stage(actors: Sequence[Actor], seconds: float) -> list[np.ndarray]:
    """Frames at `STAGE_RATE`: each actor's picture pasted where it stands."""
    from mmsa.demo.face import FaceState

    painters = [_painter(actor.who) for actor in actors]
    order = sorted(range(len(actors)), key=lambda i: actors[i].in_front)
    frames = []
    for number in range(round(seconds * STAGE_RATE)):
        now = number / STAGE_RATE
        frame = np.full((*STAGE_SIZE, 3), 120, np.uint8)
        for i in order:
            x = actors[i].x(now)
            if x is None:
                continue
            picture = painters[i].paint(FaceState(jaw=float(actors[i].jaw(now))))[:, _CUT]
            left = round(x) - picture.shape[1] // 2
            low, high = max(0, left), min(STAGE_SIZE[1], left + picture.shape[1])
            if low < high:
                frame[:, low:high] = picture[:, low - left : high - left]
        frames.append(frame)
    return frames


@dataclass(frozen=True)
class Stage:
    """What the tests of several faces draw with; see the functions of these names."""

    actor: type[Actor] = Actor
    syllables: Callable[[int, float, float], Callable[[float], float]] = syllables
    voice: Callable[..., np.ndarray] = voice
    draw: Callable[[Sequence[Actor], float], list[np.ndarray]] = draw_stage
    rate: int = STAGE_RATE
    size: tuple[int, int] = STAGE_SIZE


@pytest.fixture(scope="session")
def stage() -> Stage:
    """See `Stage`."""
    return Stage()


SECONDS = 12.0
LEFT, RIGHT = 200.0, 700.0
# Drawn 1.27 times as large as the other, and with a skin whose red is 96 of 255 darker.
LARGE, SMALL = "s15", "s16"


@pytest.fixture(scope="session")
def talk(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The left one speaks for 4 s, then the right one for 4 s, then nobody; who listens chews, at other times."""
    first, second = stage.syllables(1, 0.0, 4.0), stage.syllables(2, 4.0, 8.0)
    chewing, more = stage.syllables(3, 0.5, 3.0), stage.syllables(4, 5.0, 10.5)
    actors = [
        stage.actor(LARGE, lambda t: LEFT, lambda t: first(t) + more(t)),
        stage.actor(SMALL, lambda t: RIGHT, lambda t: second(t) + chewing(t)),
    ]
    from tests.extractors.conftest import write_media

    path = tmp_path_factory.mktemp("stage") / "talk.mp4"
    voice = stage.voice([first, second], SECONDS)
    return write_media(path, frames=stage.draw(actors, SECONDS), fps=stage.rate, samples=voice, rate=16000)
