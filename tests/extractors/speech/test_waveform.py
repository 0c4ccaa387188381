from __future__ import annotations

import numpy as np
import pytest

from extractors.spec import ExtractorSpec
from extractors.speech.waveform import Waveform


def tone(steps: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(steps * 320)).astype(np.float32)


def test_each_step_holds_its_samples() -> None:
    """A rest shorter than a step is left out."""
    samples = tone(5.5)
    found = Waveform().extract_samples(samples)
    np.testing.assert_array_equal(found.values, samples[:1600].reshape(5, 320))
    np.testing.assert_allclose(found.times, [[k * 0.02, k * 0.02 + 0.02] for k in range(5)], atol=1e-12)


@pytest.mark.parametrize("block", [1, 100, 319, 320, 321, 5000])
def test_blocks_leave_no_trace(block: int) -> None:
    samples = tone(7.3)
    stream = Waveform().stream(640)
    for start in range(0, len(samples), block):
        stream.push(samples[start : start + block])
    found = stream.finish()
    np.testing.assert_array_equal(found.values, samples[: 7 * 320].reshape(7, 320))
    assert found.times[0, 0] == 0.04


def test_pauses_stay_in_and_silence_has_no_step() -> None:
    samples = np.concatenate([tone(2), np.zeros(960, np.float32), tone(1)])
    assert len(Waveform().extract_samples(samples)) == 6
    stream = Waveform().stream()
    stream.push(np.full(3200, 1e-4, np.float32))  # -80 dB
    assert not len(stream.finish())
    assert stream.missing_reason() == "silent"
    assert len(Waveform(silence_db=-90).extract_samples(np.full(3200, 1e-4, np.float32))) == 10


def test_too_little_sound() -> None:
    stream = Waveform().stream()
    stream.push(tone(0.5))
    assert not len(stream.finish())
    assert stream.missing_reason() == "only 0.010 s of sound, less than one step"


def test_windows_are_what_segments_are() -> None:
    """While samples come in and old ones are forgotten."""
    samples = tone(100)
    whole = Waveform().extract_samples(samples)
    stream = Waveform().stream()
    for number in range(8):
        start = 0.2 * number
        while stream._first + sum(map(len, stream._rows)) < (start + 0.5) * 50:  # type: ignore[attr-defined]
            done = stream._first + sum(map(len, stream._rows))  # type: ignore[attr-defined]
            stream.push(samples[done * 320 : done * 320 + 960])
        found, reason = stream.window(start, start + 0.5)
        expected = whole.between(start, start + 0.5)
        assert reason == ""
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_allclose(found.times, expected.times)
        stream.forget(start)
    assert stream._first > 0  # type: ignore[attr-defined]


def test_it_is_rebuilt_from_its_spec() -> None:
    import extractors

    spec = Waveform(silence_db=-50).spec
    assert extractors.rebuild(ExtractorSpec.from_json(spec.to_json())).spec == spec
    assert Waveform.raw


def test_a_start_between_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="first_sample must be a multiple of 320, not 100"):
        Waveform().stream(100)
    with pytest.raises(ValueError, match="silence_db must be a number from -120 to 0"):
        Waveform(silence_db=3)
