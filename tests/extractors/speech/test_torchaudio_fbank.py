"""`TorchaudioFbank` against Kaldi's definition, written out."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.errors import ToolError
from extractors.speech.torchaudio_fbank import TorchaudioFbank

RATE = 16000


def signal(seconds: float = 1.0) -> np.ndarray:
    return (0.2 * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)


def naive_fbank(samples: np.ndarray, bins: int) -> np.ndarray:
    """One window of 25 ms: mean removed, pre-emphasised, Povey window, power spectrum, triangles on the mel scale."""
    x = samples.astype(np.float64) * 32768
    x = x - x.mean()
    x = x - 0.97 * np.concatenate([x[:1], x[:-1]])
    x = x * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(x, 512)) ** 2
    mel = lambda hz: 1127 * np.log(1 + hz / 700)  # noqa: E731
    edges = np.linspace(mel(20.0), mel(8000.0), bins + 2)
    at = mel(np.arange(257) * RATE / 512)
    result = []
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        weight = np.clip(np.minimum((at - left) / (centre - left), (right - at) / (right - centre)), 0, None)
        weight[256] = 0.0
        result.append(np.log(max(weight @ power, np.finfo(np.float32).eps)))
    return np.array(result)


@pytest.mark.parametrize("bins", [40, 80])
def test_against_the_definition(bins: int) -> None:
    sequence = TorchaudioFbank(mel_bins=bins).extract_samples(signal(0.2))
    assert len(sequence) == (3200 - 400) // 160 + 1
    for k in (0, 7):
        assert np.allclose(sequence.values[k], naive_fbank(signal(0.2)[160 * k : 160 * k + 400], bins), atol=2e-3)
    assert np.allclose(sequence.times[3], [0.03, 0.055])


def naive_mfcc(samples: np.ndarray, bins: int, count: int) -> np.ndarray:
    """The cosine transform of one window's log mel energies, the 0th scaled to be orthonormal, liftered by 22."""
    bands = naive_fbank(samples, bins)
    k, n = np.arange(count)[:, None], np.arange(bins)[None]
    cosines = np.sqrt(2 / bins) * np.cos(np.pi * k * (n + 0.5) / bins)
    cosines[0] = np.sqrt(1 / bins)
    return (cosines @ bands) * (1 + 11 * np.sin(np.pi * np.arange(count) / 22))


def test_cepstra_against_the_definition() -> None:
    extractor = TorchaudioFbank(kind="mfcc", mel_bins=40, mfcc_count=20)
    sequence = extractor.extract_samples(signal(0.2))
    assert sequence.names[-1] == "mfcc_19"
    for k in (0, 7):
        assert np.allclose(sequence.values[k], naive_mfcc(signal(0.2)[160 * k : 160 * k + 400], 40, 20), atol=2e-2)
    assert extractor.spec.parameters["kind"] == "mfcc"
    assert "kind" not in TorchaudioFbank(mfcc_count=20).spec.parameters


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["fbank", "mfcc"])
def test_a_gpu_gives_the_same(kind: str) -> None:
    on_cpu = TorchaudioFbank(kind=kind, device="cpu").extract_samples(signal(2.0))
    on_gpu = TorchaudioFbank(kind=kind, device="cuda").extract_samples(signal(2.0))
    assert np.allclose(on_cpu.values, on_gpu.values, atol=1e-2)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 45 * RATE), max_size=20))
def test_any_blocking_gives_the_same_features(cuts: list[int]) -> None:
    sound = signal(45.0)
    sound[10 * RATE : 12 * RATE] = 0
    extractor = TorchaudioFbank(mel_bins=40)
    whole = extractor.extract_samples(sound)
    stream = extractor.stream()
    for block in np.split(sound, sorted(cuts)):
        stream.push(block)
    found = stream.finish()
    assert np.array_equal(found.times, whole.times)
    assert np.allclose(found.values, whole.values, atol=1e-4)
    assert not ((whole.times[:, 0] >= 10) & (whole.times[:, 1] <= 12)).any()


def test_a_broken_torchaudio_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio.compliance", None)
    with pytest.raises(ToolError, match=r"torchaudio cannot be imported .*install torch==2\.11"):
        TorchaudioFbank().stream()


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of \('fbank', 'mfcc'\), not 'mfccs'"):
        TorchaudioFbank(kind="mfccs")
    with pytest.raises(ValueError, match="mfcc_count must be a number from 1 to 8, not 13"):
        TorchaudioFbank(kind="mfcc", mel_bins=8)
    with pytest.raises(ValueError, match="mel_bins must be a number from 8 to 128, not 1000"):
        TorchaudioFbank(mel_bins=1000)
