"""The cast: twenty drawn speakers, each with a look and a voice of their own, split by person.

The cast does not depend on the corpus seed: a seed changes what is said and how, not who says it. So the promise
that a face tracker finds every face can be checked once for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmsa.corpora.clip import Split

Colour = tuple[int, int, int]
HairStyle = Literal["short", "long", "bob", "cropped"]

_SKINS: tuple[Colour, ...] = (
    (236, 200, 176),
    (198, 150, 116),
    (224, 180, 148),
    (160, 112, 82),
    (242, 212, 192),
    (182, 132, 100),
    (212, 166, 134),
    (140, 98, 74),
)
_HAIRS: tuple[Colour, ...] = (
    (52, 36, 28),
    (30, 26, 26),
    (112, 76, 44),
    (170, 128, 70),
    (96, 44, 28),
    (128, 122, 118),
    (70, 50, 38),
)
_IRISES: tuple[Colour, ...] = ((78, 52, 30), (70, 98, 122), (60, 84, 56), (96, 70, 40), (46, 34, 26))
_WALLS: tuple[Colour, ...] = (
    (150, 168, 178),
    (176, 168, 146),
    (128, 146, 128),
    (170, 156, 176),
    (112, 128, 150),
    (190, 186, 180),
    (158, 138, 124),
)
_CLOTHES: tuple[Colour, ...] = (
    (44, 62, 96),
    (110, 44, 50),
    (58, 84, 66),
    (72, 72, 78),
    (150, 120, 60),
    (84, 60, 100),
    (36, 88, 100),
    (196, 192, 184),
    (40, 40, 44),
)
_STYLES: tuple[HairStyle, ...] = ("short", "long", "cropped", "bob")
_TEST_PEOPLE = (3, 8, 14, 17)
_VALID_PEOPLE = (1, 6, 11, 16)
N_SPEAKERS = 20


@dataclass(frozen=True)
class Look:
    """Geometry in units of half the face's width, colours as RGB 0-255.

    Attributes:
        half_width_pixels: half the face's width in a 320 x 320 picture; the camera's distance.
        height: eye line to chin, in half widths.
        jaw: width at the mouth over width at the cheeks.
        eye_gap: centre of the face to the centre of an eye.
        eye_size: half an eye's width.
        brow_height: eye line to brow.
        brow_weight: thickness of the brows.
        nose_length: eye line to the nose's base.
        nose_width: half the nose's width.
        mouth_drop: eye line to where the lips meet.
        mouth_width: half the mouth's width at rest.
        lip: thickness of one lip.
        light: -1 lit from the picture's left, 1 from its right.
    """

    half_width_pixels: float
    height: float
    jaw: float
    eye_gap: float
    eye_size: float
    brow_height: float
    brow_weight: float
    nose_length: float
    nose_width: float
    mouth_drop: float
    mouth_width: float
    lip: float
    light: float
    skin: Colour
    hair: Colour
    iris: Colour
    wall: Colour
    clothes: Colour
    style: HairStyle


@dataclass(frozen=True)
class VoiceTraits:
    """What a speaker's voice is like when calm.

    Attributes:
        pitch_hz: mean fundamental.
        tract: factor on all formants; above 1 is a shorter vocal tract.
        syllable_rate: factor on the speed of speech.
        tilt_db: added fall of the source's spectrum, dB per octave above 500 Hz.
        breath: added noise in the source, relative to the pulses.
    """

    pitch_hz: float
    tract: float
    syllable_rate: float
    tilt_db: float
    breath: float


@dataclass(frozen=True)
class Speaker:
    """One member of the cast."""

    id: str
    split: Split
    look: Look
    voice: VoiceTraits


def _split_of(index: int) -> Split:
    if index in _TEST_PEOPLE:
        return "test"
    return "valid" if index in _VALID_PEOPLE else "train"


def _look(index: int, rng: np.random.Generator) -> Look:
    def between(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 4)

    nose_length = between(0.44, 0.54)
    return Look(
        half_width_pixels=between(58.0, 76.0),
        height=between(1.26, 1.42),
        jaw=between(0.74, 0.86),
        eye_gap=between(0.40, 0.46),
        eye_size=between(0.19, 0.225),
        brow_height=between(0.27, 0.32),
        brow_weight=between(0.055, 0.085),
        nose_length=nose_length,
        nose_width=between(0.17, 0.23),
        mouth_drop=round(nose_length + between(0.31, 0.36), 4),
        mouth_width=between(0.34, 0.40),
        lip=between(0.075, 0.105),
        light=float(rng.choice([-1.0, 1.0])) * between(0.4, 1.0),
        skin=_SKINS[index % len(_SKINS)],
        hair=_HAIRS[(index * 3 + 1) % len(_HAIRS)],
        iris=_IRISES[index * 2 % len(_IRISES)],
        wall=_WALLS[(index * 5 + 2) % len(_WALLS)],
        clothes=_CLOTHES[index * 2 % len(_CLOTHES)],
        style=_STYLES[(index + index // 4) % len(_STYLES)],
    )


def _voice(index: int, rng: np.random.Generator) -> VoiceTraits:
    high = index % 2 == 1
    return VoiceTraits(
        pitch_hz=round(float(rng.uniform(175, 225) if high else rng.uniform(98, 140)), 2),
        tract=round(float(rng.uniform(1.10, 1.17) if high else rng.uniform(0.97, 1.05)), 4),
        syllable_rate=round(float(rng.uniform(0.94, 1.06)), 4),
        tilt_db=round(float(rng.uniform(0.0, 1.5)), 4),
        breath=round(float(rng.uniform(0.01, 0.03)), 4),
    )


def _make(index: int) -> Speaker:
    rng = np.random.default_rng([20, index])
    return Speaker(f"s{index:02d}", _split_of(index), _look(index, rng), _voice(index, rng))


SPEAKERS: tuple[Speaker, ...] = tuple(_make(index) for index in range(N_SPEAKERS))
"""The whole cast: 12 speakers train, 4 validate, 4 test."""


def speaker_named(speaker_id: str) -> Speaker:
    """The member of the cast with this id.

    Raises:
        ValueError: nobody has it.
    """
    for speaker in SPEAKERS:
        if speaker.id == speaker_id:
            return speaker
    raise ValueError(f"no speaker {speaker_id!r}: the cast is {SPEAKERS[0].id} to {SPEAKERS[-1].id}")
