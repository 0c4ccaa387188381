"""Levels by frame, from their definition; the same whichever way the sound comes."""

from __future__ import annotations

import numpy as np
import pytest

from extractors.facial.speech_energy import FLOOR_DB, RATE_HZ, SpeechEnergy

NOISE = np.random.default_rng(0).normal(0.0, 0.1, 3 * RATE_HZ).astype(np.float32)


def expected(samples: np.ndarray, frame: int, rate: float) -> float:
    """The root mean square of half a frame on either side of the instant, its mean taken out, in decibels."""
    low, high = round((frame - 0.5) * RATE_HZ / rate), round((frame + 0.5) * RATE_HZ / rate)
    part = samples[max(0, low) : high].astype(np.float64)
    return 20 * np.log10(np.std(part))


@pytest.mark.parametrize("rate", [10.0, 12.5, 30.0])
def test_levels_are_those_of_the_definition(rate: float) -> None:
    energy = SpeechEnergy(rate)
    energy.push(NOISE * np.linspace(0, 1, len(NOISE), dtype=np.float32) + np.float32(0.3), 0)
    count = round(3 * rate)
    found = energy.levels(0, count + 1)
    shaped = NOISE * np.linspace(0, 1, len(NOISE), dtype=np.float32) + np.float32(0.3)
    assert energy.known == count
    assert found[:count] == pytest.approx([expected(shaped, k, rate) for k in range(count)], abs=1e-6)
    assert np.isnan(found[count])


def test_a_tone_of_full_scale_is_at_minus_three_decibels_and_silence_at_the_floor() -> None:
    energy = SpeechEnergy(10.0)
    energy.push(np.sin(2 * np.pi * 200 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32), 0)
    energy.push(np.full(RATE_HZ, 0.5, np.float32), RATE_HZ)
    found = energy.levels(0, 19)
    assert found[1:9] == pytest.approx(-3.01, abs=0.01)
    assert found[11:] == pytest.approx(FLOOR_DB)


def test_blocks_of_any_size_and_a_start_within_the_media() -> None:
    whole = SpeechEnergy(10.0)
    whole.push(NOISE, 0)
    pieces, at = SpeechEnergy(10.0), RATE_HZ
    for size in (1, 777, 5000, 3, 2 * RATE_HZ):
        pieces.push(NOISE[at : at + size], at)
        at += size
    assert np.isnan(pieces.levels(0, 11)).all()
    assert pieces.levels(11, 29) == pytest.approx(whole.levels(11, 29), abs=1e-9)


def test_what_is_forgotten_is_gone_and_little_is_held() -> None:
    energy = SpeechEnergy(10.0)
    assert not energy.heard
    for k in range(300):
        energy.push(NOISE[:800], 800 * k)
        energy.forget(k - 5)
    assert energy.heard
    assert len(energy._levels) <= 7
    assert len(energy._held) < 800
    assert np.isnan(energy.levels(0, 280)).all()
