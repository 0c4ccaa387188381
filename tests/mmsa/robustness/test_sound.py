from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import welch

import extractors
from extractors import AudioStream, FeatureSequence
from mmsa.robustness import sound
from mmsa.robustness.sound import COLOURS, NoisyAudio, noise_blocks


class Recorder(AudioStream):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.blocks: list[NDArray[np.float32]] = []

    def push(self, samples: NDArray[np.float32]) -> None:
        self.blocks.append(samples.copy())

    def finish(self) -> FeatureSequence:
        return FeatureSequence.empty(("none",))

    @property
    def heard(self) -> NDArray[np.float64]:
        return np.concatenate(self.blocks).astype(np.float64)


def laid_under(noisy: NoisyAudio, clip: NDArray[np.float32], blocks: int = 1) -> NDArray[np.float64]:
    """What the inner extractor hears of a clip that is pushed in blocks."""
    inner = Recorder()
    stream = sound._NoisyStream(noisy, inner)
    for block in np.array_split(clip, blocks):
        stream.push(block)
    stream.finish()
    return inner.heard


def speechlike(seconds: float = 3.0) -> NDArray[np.float32]:
    """A tone that comes and goes, with a pause."""
    time = np.arange(int(seconds * 8000)) / 8000
    return (0.3 * np.sin(2 * np.pi * 220 * time) * np.abs(np.sin(2 * np.pi * time)) * (time > 0.5)).astype(np.float32)


def decibels(signal: NDArray[Any], noise: NDArray[Any]) -> float:
    return float(10 * np.log10(np.mean(np.square(signal, dtype=float)) / np.mean(np.square(noise, dtype=float))))


@pytest.fixture
def voices(tmp_path: Any) -> Any:
    path = tmp_path / "voices.npy"
    np.save(path, np.sin(np.arange(5000) ** 1.3).astype(np.float32))
    return path


def make(small: Any, colour: Any, snr_db: float, voices: Any, seed: int = 0) -> NoisyAudio:
    babble = voices if colour == "babble" else None
    return NoisyAudio.around(small.Loudness(), colour, snr_db, seed=seed, babble=babble)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("snr_db", [20.0, 0.0, -5.0])
def test_the_ratio_is_the_one_asked_for(small: Any, voices: Any, colour: str, snr_db: float) -> None:
    """Over the whole clip, pauses included; half a million single-precision roundings leave less than 0.01 dB."""
    clip = speechlike()
    heard = laid_under(make(small, colour, snr_db, voices), clip)
    assert decibels(clip, heard - clip) == pytest.approx(snr_db, abs=0.01)


def test_a_long_clip_is_kept_on_the_disk_and_has_the_same_ratio(
    small: Any, voices: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "_SPOOL_BYTES", 1000)
    monkeypatch.setattr(sound, "_BLOCK_SAMPLES", 777)
    clip = speechlike()
    inner = Recorder()
    stream = sound._NoisyStream(make(small, "pink", 10, voices), inner)
    stream.push(clip)
    assert stream._kept._rolled  # type: ignore[attr-defined]
    stream.finish()
    assert max(map(len, inner.blocks)) <= 777
    assert decibels(clip, inner.heard - clip) == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize("colour", COLOURS)
def test_noise_follows_from_seed_and_clip_alone(small: Any, voices: Any, colour: str) -> None:
    clip = speechlike()
    once = laid_under(make(small, colour, 5, voices), clip)
    again = laid_under(make(small, colour, 5, voices), clip, blocks=7)
    np.testing.assert_array_equal(once, again)
    noise = {
        "own": once - clip,
        "seed": laid_under(make(small, colour, 5, voices, seed=1), clip) - clip,
        "clip": laid_under(make(small, colour, 5, voices), clip[::-1].copy()) - clip[::-1],
    }
    if colour != "babble":  # which begins elsewhere in one recording, so that pieces of it may resemble each other
        for other in ("seed", "clip"):
            assert abs(np.corrcoef(noise["own"], noise[other])[0, 1]) < 0.1
    assert not np.array_equal(noise["own"], noise["seed"])
    assert not np.array_equal(noise["own"], noise["clip"])


def test_levels_of_one_seed_differ_in_loudness_alone(small: Any, voices: Any) -> None:
    clip = speechlike()
    quiet, loud = (laid_under(make(small, "white", snr, voices), clip) - clip for snr in (20, 0))
    assert np.corrcoef(quiet, loud)[0, 1] > 0.9999


def test_a_silent_clip_stays_silent_and_an_empty_one_empty(small: Any, voices: Any) -> None:
    assert not laid_under(make(small, "white", 0, voices), np.zeros(900, np.float32)).any()
    stream = make(small, "white", 0, voices).stream()
    assert len(stream.finish()) == 0


@pytest.mark.parametrize(("colour", "slope"), [("white", 0.0), ("pink", -10.0)])
def test_the_spectrum_falls_as_the_colour_says(colour: str, slope: float) -> None:
    """In dB per decade: -10 is 3 dB per octave."""
    noise = np.concatenate(list(noise_blocks(colour, 1 << 20, np.random.default_rng(0))))
    frequency, power = welch(noise, 16000, nperseg=1 << 14)
    band = (frequency > 30) & (frequency < 6000)
    edges = np.geomspace(30, 6000, 25)  # even in the logarithm, so that high frequencies do not decide alone
    place = np.digitize(frequency[band], edges)
    bins = [i for i in range(1, 25) if (place == i).any()]
    x = [np.log10(frequency[band][place == i]).mean() for i in bins]
    y = [10 * np.log10(power[band][place == i].mean()) for i in bins]
    assert np.polyfit(x, y, 1)[0] == pytest.approx(slope, abs=0.5)


def test_babble_runs_on_from_its_end_to_its_beginning() -> None:
    voices = np.arange(10, dtype=np.float32)
    noise = np.concatenate(list(noise_blocks("babble", 25, np.random.default_rng(0), voices)))
    np.testing.assert_array_equal(np.diff(noise) % 10, np.ones(24))


def test_features_are_those_of_the_noisy_sound(small: Any, voices: Any) -> None:
    clip = speechlike()
    noisy = make(small, "white", 0, voices)
    inner = small.Loudness()
    expected = inner.extract_samples(laid_under(noisy, clip).astype(np.float32))
    found = noisy.extract_samples(clip)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.times, expected.times)
    assert not np.allclose(found.values, inner.extract_samples(clip).values)


def test_it_is_rebuilt_from_its_spec(small: Any, voices: Any) -> None:
    """As in worker processes and in the feature store."""
    for colour in COLOURS:
        noisy = make(small, colour, 7.5, voices, seed=3)
        spec = extractors.ExtractorSpec.from_json(noisy.spec.to_json())
        again = extractors.rebuild(spec)
        assert again.spec == noisy.spec
        assert again.spec.fingerprint == noisy.spec.fingerprint
        np.testing.assert_array_equal(
            again.extract_samples(speechlike()).values,  # type: ignore[attr-defined]
            noisy.extract_samples(speechlike()).values,
        )


def test_what_changes_a_number_changes_the_fingerprint(small: Any, voices: Any) -> None:
    specs = [make(small, *given, voices, seed).spec for *given, seed in (
        ("white", 5, 0), ("white", 6, 0), ("pink", 5, 0), ("white", 5, 1), ("babble", 5, 0)
    )]  # fmt: skip
    np.save(voices, np.ones(10, np.float32))
    specs.append(make(small, "babble", 5, voices).spec)
    assert len({spec.fingerprint for spec in specs}) == len(specs)


def test_a_file_of_voices_changes_no_fingerprint_by_its_place(small: Any, voices: Any) -> None:
    before = make(small, "babble", 5, voices).spec.fingerprint
    moved = voices.with_name("elsewhere.npy")
    voices.rename(moved)
    assert make(small, "babble", 5, moved).spec.fingerprint == before


def test_what_cannot_be_is_refused(small: Any, voices: Any) -> None:
    spec = small.Loudness().spec.to_dict()
    with pytest.raises(ValueError, match="colour must be one of white, pink, babble, not 'brown'"):
        NoisyAudio(inner=spec, colour="brown", snr_db=5)
    with pytest.raises(ValueError, match="babble noise, and no other, comes with a file of voices"):
        NoisyAudio(inner=spec, colour="babble", snr_db=5)
    with pytest.raises(ValueError, match="what an audio extractor hears, not to text"):
        NoisyAudio(inner=small.WordLengths().spec.to_dict(), colour="white", snr_db=5)
