"""`EGeMAPS` against openSMILE on the whole recording."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import extractors
from extractors.speech.egemaps import EGeMAPS

opensmile = pytest.importorskip("opensmile")

# They follow the periods of the voice from where the sound begins.
COUNTED_FROM_THE_START = {"jitterLocal_sma3nz", "shimmerLocaldB_sma3nz"}


def sung(seconds: float) -> np.ndarray:
    """A gliding voice of harmonics whose loudness swings, in a little noise."""
    t = np.arange(round(seconds * 16000)) / 16000
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(2 * np.pi * 0.3 * t)) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * 0.1 * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))
    return (voice + 1e-3 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)


def naive(samples: np.ndarray, level: str) -> np.ndarray:
    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=getattr(opensmile.FeatureLevel, level)
    )
    return smile.process_signal(samples, 16000).to_numpy(np.float32)


def test_descriptors_in_chunks_are_those_of_one_pass() -> None:
    """25 s are three chunks; jitter and shimmer are compared in the first."""
    samples = sung(25.0)
    found, whole = EGeMAPS().extract_samples(samples), naive(samples, "LowLevelDescriptors")
    assert len(found) == (len(samples) - 960) // 160 + 1
    assert np.allclose(found.times[:, 0], np.arange(len(found)) * 0.01)
    assert np.allclose(found.times[:, 1] - found.times[:, 0], 0.02)
    scale = whole.std(axis=0) + 1e-6
    for column, name in enumerate(found.names):
        rows = slice(0, 790 if name in COUNTED_FROM_THE_START else len(found))
        apart = np.abs(found.values[rows, column] - whole[: len(found)][rows, column]) / scale[column]
        assert apart.max() < 1e-2, name


def test_functionals_are_openSMILE_s_of_each_window() -> None:  # noqa: N802
    samples = sung(7.4)
    found = EGeMAPS(level="functionals", window_seconds=2.0, hop_seconds=1.0).extract_samples(samples)
    assert found.dim == 88
    assert found.times.tolist() == [[float(k), k + 2.0] for k in range(7)]
    for k in range(7):  # the last two run over the end: 1.4 s are left of one, and 1.4 s less a hop of none
        window = samples[16000 * k : 16000 * (k + 2)]
        assert np.allclose(found.values[k], naive(window, "Functionals")[0], rtol=1e-4, atol=1e-4)
    short = EGeMAPS(level="functionals").extract_samples(sung(0.6))
    assert np.allclose(short.values[0], naive(sung(0.6), "Functionals")[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", ["lld", "functionals"])
def test_a_segment_and_a_window_get_what_the_whole_file_has(write_wav: Callable[..., Path], level: str) -> None:
    path, audio = write_wav("a.wav", sung(23.0)), {"audio": EGeMAPS(level=level)}
    whole = extractors.extract(path, audio).sequences["audio"]
    spans = [(2.5, 4.0), (11.0, 19.5)]
    for (start, end), window in zip(spans, extractors.extract_windows(path, audio, spans), strict=True):
        segment = extractors.extract(path, audio, start_seconds=start, end_seconds=end).sequences["audio"]
        expected = whole.between(start, end)
        assert len(expected)
        for found in (segment, window.extraction.sequences["audio"]):
            assert np.array_equal(found.times, expected.times)
            assert np.allclose(found.values, expected.values, atol=1e-3, rtol=1e-3)


def test_noise_and_silence() -> None:
    """Unvoiced windows have finite functionals; silent steps are left out."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(48000)).astype(np.float32)
    assert np.isfinite(EGeMAPS(level="functionals").extract_samples(noise).values).all()
    noise[16000:32000] = 0.0
    found = EGeMAPS().extract_samples(noise)
    assert not ((found.times[:, 0] >= 1.0) & (found.times[:, 1] <= 2.0)).any()
    assert len(EGeMAPS().extract_samples(np.zeros(32000, np.float32))) == 0


def test_without_opensmile_the_extra_and_its_licence_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(extractors.ToolError, match=r"mmsa-framework\[egemaps\].*licence .* no commercial use"):
        EGeMAPS()


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"level must be one of \('lld', 'functionals'\), not 'llds'"):
        EGeMAPS(level="llds")
    with pytest.raises(ValueError, match=r"hop_seconds must be a number from 0\.05 to 1, not 2"):
        EGeMAPS(level="functionals", window_seconds=1.0, hop_seconds=2)
