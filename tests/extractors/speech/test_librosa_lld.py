"""`LibrosaLLD` against signals whose descriptors are known, and against any blocking."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.speech.librosa_lld import LibrosaLLD

RATE = 16000
DEFAULT = LibrosaLLD()


def column(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, DEFAULT.names.index(name)]


def harmonic(hz: float, seconds: float = 0.6, level: float = 0.3) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (level * sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 5))).astype(np.float32)


def noise(seconds: float = 0.6, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(3).standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.mark.parametrize("hz", [80.0, 110.0, 150.0, 220.0, 330.0, 440.0])
def test_f0_in_semitones(hz: float) -> None:
    values = DEFAULT.extract_samples(harmonic(hz)).values
    assert np.abs(column(values, "f0_semitones") - 12 * np.log2(hz / 150)).max() < 0.15
    assert (column(values, "voiced") == 1).all()
    assert column(values, "hnr_db").min() > 10


def test_noise_is_not_voiced_and_has_no_pitch() -> None:
    values = DEFAULT.extract_samples(noise()).values
    assert column(values, "voiced").mean() < 0.05
    assert column(values, "hnr_db").max() < 3
    unvoiced = DEFAULT.extract_samples(noise(0.1))
    assert column(unvoiced.values, "voiced").sum() == 0
    assert (column(unvoiced.values, "f0_semitones") == 0).all()


def test_pitch_of_unvoiced_steps_lies_on_a_line_between_voiced_ones() -> None:
    signal = np.concatenate([harmonic(110), noise(0.4), harmonic(220)])
    values = DEFAULT.extract_samples(signal).values
    f0, voiced = column(values, "f0_semitones"), column(values, "voiced") == 1
    edges = np.flatnonzero(np.diff(voiced.astype(int)))
    first, last = edges[0], edges[-1] + 1
    gap = f0[first : last + 1]
    assert np.allclose(gap, np.linspace(gap[0], gap[-1], len(gap)), atol=1e-3)
    assert gap[0] < -4
    assert gap[-1] > 5


def test_energy_of_a_sine() -> None:
    sine = 0.5 * np.sin(2 * np.pi * 400 * np.arange(RATE) / RATE).astype(np.float32)
    values = DEFAULT.extract_samples(sine).values
    assert np.allclose(column(values, "energy_db"), 10 * np.log10(0.125), atol=0.01)
    assert np.allclose(column(values, "energy_delta_db"), 0, atol=0.01)
    assert np.allclose(column(values, "zero_crossing_rate"), 2 * 400 / RATE, atol=2 / 640)
    assert np.allclose(column(values, "spectral_centroid_hz"), 400, atol=40)


def test_energy_difference_of_a_steady_rise() -> None:
    t = np.arange(2 * RATE) / RATE
    rising = (0.01 * 10 ** (t / 2) * np.sin(2 * np.pi * 400 * t)).astype(np.float32)
    inner = column(DEFAULT.extract_samples(rising).values, "energy_delta_db")[6:-6]
    assert np.allclose(inner, 10 * 0.02, atol=0.02)


def test_spectral_ratios() -> None:
    t = np.arange(RATE) / RATE
    low, high = np.sin(2 * np.pi * 500 * t), np.sin(2 * np.pi * 3000 * t)
    values = DEFAULT.extract_samples((0.4 * low + 0.04 * high).astype(np.float32)).values
    assert np.allclose(column(values, "alpha_ratio_db"), 20, atol=0.1)
    assert np.allclose(column(values, "hammarberg_index_db"), 20, atol=0.1)


def test_cepstra_against_the_definition() -> None:
    """Mel energies floored, in dB, through an orthonormal type-II cosine transform; by plain loops."""
    import librosa

    signal = harmonic(200, 0.1)
    window = signal[:640] * librosa.filters.get_window("hann", 640)
    power = np.array([abs(sum(window * np.exp(-2j * np.pi * k * np.arange(640) / 640))) ** 2 for k in range(321)])
    mel = librosa.filters.mel(sr=RATE, n_fft=640, n_mels=40) @ power
    decibels = 10 * np.log10(np.maximum(mel, 160**2 * 1e-8))
    basis = [np.cos(np.pi * k * (2 * np.arange(40) + 1) / 80) * np.sqrt((1 if k == 0 else 2) / 40) for k in range(13)]
    assert np.allclose(DEFAULT.extract_samples(signal).values[0, :13], np.array(basis) @ decibels, atol=0.05)


def test_contrast_is_librosas_where_nothing_is_limited() -> None:
    import librosa

    signal = noise(0.5, 0.3)
    spectrum = np.abs(librosa.stft(signal, n_fft=640, hop_length=320, center=False))
    expected = librosa.feature.spectral_contrast(S=spectrum, sr=RATE, n_bands=5, fmin=200.0)
    found = DEFAULT.extract_samples(signal).values[
        :, [DEFAULT.names.index(f"spectral_contrast_{i}_db") for i in range(6)]
    ]
    assert np.allclose(found, expected.T, atol=0.01)


@cache
def speechlike() -> np.ndarray:
    """Voiced stretches, noise, and pauses, for 50 s: more than two internal batches."""
    rng = np.random.default_rng(11)
    parts = []
    while sum(map(len, parts)) < 50 * RATE:
        kind = rng.integers(3)
        seconds = rng.uniform(0.1, 0.9)
        made = (
            harmonic(rng.uniform(90, 300), seconds, 0.1),
            noise(seconds, 0.03),
            np.zeros(int(seconds * RATE), np.float32),
        )
        parts.append(made[kind].astype(np.float32))
    return np.concatenate(parts)


@cache
def whole() -> tuple[np.ndarray, np.ndarray]:
    sequence = DEFAULT.extract_samples(speechlike())
    return sequence.values, sequence.times


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 50 * RATE), max_size=30))
def test_any_blocking_gives_the_same_features(cuts: list[int]) -> None:
    stream = DEFAULT.stream()
    for block in np.split(speechlike(), sorted(cuts)):
        stream.push(block)
    found = stream.finish()
    values, times = whole()
    assert np.array_equal(found.times, times)
    assert np.allclose(found.values, values, rtol=1e-5, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 40 * RATE // 320), st.integers(50, 400))
def test_a_window_knows_only_its_surroundings(first: int, steps: int) -> None:
    """A stretch heard alone, with its context, has the values it has in the whole; unvoiced F0 apart."""
    context = round(DEFAULT.context_seconds / 0.02) + 1
    begin = max(0, first - context)
    stream = DEFAULT.stream(begin * 320)
    stream.push(speechlike()[begin * 320 : (first + steps + context) * 320 + 640])
    part = stream.finish().between(first * 0.02 + 0.02, (first + steps) * 0.02)
    values, times = whole()
    own = np.isin(times[:, 0], part.times[:, 0])
    voiced = column(values[own], "voiced") == 1
    f0 = DEFAULT.names.index("f0_semitones")
    assert np.allclose(np.delete(part.values, f0, 1), np.delete(values[own], f0, 1), rtol=1e-4, atol=1e-4)
    assert np.allclose(part.values[voiced, f0], values[own][voiced, f0], atol=1e-4)


def test_silence_floor_is_a_parameter() -> None:
    quiet = 1e-4 * noise(0.5, 1.0)
    assert len(DEFAULT.extract_samples(quiet)) == 0
    assert len(LibrosaLLD(silence_db=-90).extract_samples(quiet)) == 24
    assert np.isfinite(LibrosaLLD(silence_db=-120).extract_samples(np.full(RATE, 1e-5, np.float32)).values).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window_seconds": 1.0}, "window_seconds must be a number from 0.02 to 0.2, not 1.0"),
        ({"hop_seconds": 0.05}, "hop_seconds must be a number from 0.001 to 0.04"),
        ({"mfcc_count": 0}, "mfcc_count must be"),
        ({"highest_hz": 50.0}, "highest_hz must be a number from 90"),
        (
            {"window_seconds": 0.025},
            r"two periods of lowest_hz=60 take 0.033 s and do not fit in window_seconds=0.025: raise",
        ),
    ],
)
def test_parameters_are_checked(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LibrosaLLD(**parameters)


def test_parameters_change_the_dimension_and_the_fingerprint() -> None:
    more = LibrosaLLD(mfcc_count=20)
    assert len(more.names) == len(DEFAULT.names) + 14
    assert more.extract_samples(harmonic(200)).dim == len(more.names)
    assert more.spec.fingerprint != DEFAULT.spec.fingerprint
