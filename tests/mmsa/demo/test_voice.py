from dataclasses import replace

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsa.demo.phones import PHONES, TimedPhone, time_phones
from mmsa.demo.speakers import SPEAKERS
from mmsa.demo.voice import SAMPLE_RATE, speak, voice_style

SENTENCE = "Our neighbour really enjoyed the long weekend."


def hold(vowel, style, seconds=1.2):
    """The middle second of one vowel held without accent, slope or jitter."""
    plain = replace(style, range_semitones=0.0, slope_semitones=0.0, jitter=0.0)
    samples = speak((TimedPhone(vowel, 0.0, seconds, False),), plain, seconds, np.random.default_rng(0))
    return samples[SAMPLE_RATE // 10 : -SAMPLE_RATE // 10]


def say(style, seed=0, transcript=SENTENCE):
    phones = time_phones(transcript, style.rate)
    return speak(phones, style, phones[-1].end_seconds + 0.2, np.random.default_rng(seed))


def level_db(samples):
    energy = librosa.feature.rms(y=samples)[0]
    return 20 * np.log10(np.sqrt(np.mean(energy[energy > 0.2 * energy.max()] ** 2)))


def pitch_semitones(samples):
    """YIN where the sound is loud, re 1 Hz."""
    pitch = librosa.yin(samples, fmin=60, fmax=500, sr=SAMPLE_RATE)
    energy = librosa.feature.rms(y=samples)[0][: len(pitch)]
    return 12 * np.log2(pitch[: len(energy)][energy > 0.25 * energy.max()])


def formants_hz(samples, order):
    """Angles of the sharp poles of a linear prediction, ascending."""
    emphasised = np.diff(samples.astype(float)) * np.hanning(len(samples) - 1)
    roots = np.roots(librosa.lpc(emphasised, order=order))
    sharp = roots[(roots.imag > 0) & (np.abs(roots) > 0.9)]
    hz = np.sort(np.angle(sharp) * SAMPLE_RATE / (2 * np.pi))
    return hz[hz > 150]


def periodicity(samples):
    """Highest autocorrelation at a lag between 1/400 and 1/60 s, relative to lag 0, over 50 ms pieces."""
    pieces = samples[: len(samples) // 800 * 800].reshape(-1, 800).astype(float)
    values = []
    for piece in pieces[(pieces**2).mean(1) > 0.1 * (pieces**2).mean()]:
        full = np.correlate(piece, piece, "full")[799:] / np.arange(800, 0, -1) * 800
        values.append(full[40:267].max() / full[0])
    return np.median(values)


@pytest.mark.parametrize("index", [0, 1, 6, 13, 18])
@pytest.mark.parametrize("arousal", [-1.0, 1.0])
def test_a_held_vowel_has_the_requested_pitch(index, arousal):
    style = voice_style(SPEAKERS[index].voice, arousal=arousal)
    measured = librosa.yin(hold("AA", style), fmin=60, fmax=500, sr=SAMPLE_RATE)
    assert np.median(measured) == pytest.approx(style.pitch_hz, rel=0.02)


@pytest.mark.parametrize("index", [0, 5, 9, 16])
def test_the_pitch_of_a_sentence_is_about_the_requested_one(index):
    style = voice_style(SPEAKERS[index].voice)
    wanted = 12 * np.log2(style.pitch_hz)
    assert np.median(pitch_semitones(say(style))) == pytest.approx(wanted, abs=1.5)


def test_slope_and_range_show_in_the_intonation():
    flat = replace(voice_style(SPEAKERS[3].voice), range_semitones=0.0, slope_semitones=0.0, jitter=0.0)
    rising, falling = (pitch_semitones(say(replace(flat, slope_semitones=s))) for s in (6.0, -6.0))
    third = len(rising) // 3
    assert np.median(rising[-third:]) - np.median(rising[:third]) > 2
    assert np.median(falling[-third:]) - np.median(falling[:third]) < -2
    lively = pitch_semitones(say(replace(flat, range_semitones=5.0)))
    spread = [np.subtract(*np.percentile(track, [90, 10])) for track in (lively, pitch_semitones(say(flat)))]
    assert spread[0] > spread[1] + 2


@pytest.mark.parametrize("index", [2, 7])
def test_arousal_is_louder_by_its_decibels(index):
    calm, excited = (say(voice_style(SPEAKERS[index].voice, arousal=a)) for a in (-1.0, 1.0))
    assert level_db(excited) - level_db(calm) == pytest.approx(16.0, abs=2.0)


def test_arousal_is_faster():
    calm, excited = (voice_style(SPEAKERS[0].voice, arousal=a).rate for a in (-1.0, 1.0))
    assert excited > 1.3 * calm
    assert len(say(replace(voice_style(SPEAKERS[0].voice), rate=excited))) < len(say(voice_style(SPEAKERS[0].voice)))


@pytest.mark.parametrize("index", [0, 1, 12])
def test_negative_voices_are_rougher(index):
    rough, plain, clear = (periodicity(hold("AH", voice_style(SPEAKERS[index].voice, v))) for v in (-3.0, 0.0, 3.0))
    assert rough < plain < clear
    sentences = [periodicity(say(voice_style(SPEAKERS[index].voice, v))) for v in (-3.0, 3.0)]
    assert sentences[0] < sentences[1] - 0.02


@pytest.mark.parametrize("vowel", ["AA", "AE", "EH"])
@pytest.mark.parametrize("index", [0, 4])
def test_formants_are_the_vowels_scaled_by_the_tract(vowel, index):
    style = replace(voice_style(SPEAKERS[index].voice), pitch_hz=90.0, breath=0.01, tilt_db=0.0)
    measured = formants_hz(hold(vowel, style), order=14)
    wanted = np.array(PHONES[vowel].formants_hz) * style.tract
    nearest = [measured[np.abs(measured - hz).argmin()] for hz in wanted]
    np.testing.assert_allclose(nearest, wanted, rtol=0.10)


def test_friction_is_high_and_has_no_pitch():
    style = voice_style(SPEAKERS[0].voice)
    centroid = {
        name: librosa.feature.spectral_centroid(
            y=speak((TimedPhone(name, 0.1, 0.5, False),), style, 0.7, np.random.default_rng(0)), sr=SAMPLE_RATE
        )[0][8:14].mean()
        for name in ("S", "SH", "AA")
    }
    assert centroid["S"] > centroid["SH"] > 2 * centroid["AA"]


def test_nobody_speaks_nothing_but_a_quiet_room():
    samples = speak((), voice_style(SPEAKERS[0].voice), 0.5, np.random.default_rng(0))
    assert len(samples) == SAMPLE_RATE // 2
    assert 0 < np.abs(samples).max() < 0.002


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 19), st.floats(-3, 3), st.floats(-1, 1), st.integers(0, 99))
def test_every_voice_stays_within_full_scale_and_repeats(index, valence, arousal, seed):
    style = voice_style(SPEAKERS[index].voice, valence, arousal)
    samples = say(style, seed, "It was so nice.")
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert 0.01 < np.abs(samples).max() < 1.0
    np.testing.assert_array_equal(samples, say(style, seed, "It was so nice."))
