"""A source-filter voice: glottal pulses and noise through moving formant resonators.

After Fant's model and Klatt (1980, "Software for a cascade/parallel formant synthesizer"): a pulse train whose shape
is Rosenberg's (1971) polynomial, differentiated, plus breath noise, runs through a cascade of second-order resonators
whose centres follow the speech sounds; friction noise has its own resonator. Feelings act on the style: arousal on
level, spectral tilt, mean pitch and speed, valence on roughness and breath, pitch range, pitch slope and the length of
the vocal tract (spread lips shorten it).

Deviations: one cascade of five resonators and no anti-resonators (nasals are quiet, low and dull instead); formants
are held for 5 ms; stops are noise bursts after silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter, sosfilt

from mmsa.demo.phones import TimedPhone
from mmsa.demo.speakers import VoiceTraits

SAMPLE_RATE = 16_000
_STEP = 80
_BANDWIDTHS_HZ = (80.0, 100.0, 140.0, 220.0, 300.0)

Signal = NDArray[np.float64]


@dataclass(frozen=True)
class VoiceStyle:
    """How one clip is spoken.

    Attributes:
        pitch_hz: geometric mean of the fundamental over what is voiced.
        range_semitones: height of a pitch accent.
        slope_semitones: rise (or fall) of the base line over the utterance.
        level_db: level of the speech, dB relative to full scale (root mean square while speaking).
        rate: speed of speech; 1 is normal.
        tilt_db: fall of the source's spectrum above 500 Hz, dB per octave, added to the pulse's own.
        breath: noise relative to the pulses.
        jitter: cycle-to-cycle deviation of the period, relative.
        tract: factor on all formants.
    """

    pitch_hz: float
    range_semitones: float
    slope_semitones: float
    level_db: float
    rate: float
    tilt_db: float
    breath: float
    jitter: float
    tract: float


def voice_style(traits: VoiceTraits, valence: float = 0.0, arousal: float = 0.0) -> VoiceStyle:
    """The style of a speaker who feels something.

    Args:
        traits: the speaker's calm voice.
        valence: -3 to 3.
        arousal: -1 to 1.
    """
    kind = valence / 3
    return VoiceStyle(
        pitch_hz=traits.pitch_hz * 2 ** (4.0 * arousal / 12),
        range_semitones=2.6 + 2.0 * kind + 0.6 * arousal,
        slope_semitones=-1.5 + 4.0 * kind,
        level_db=-24.0 + 8.0 * arousal,
        rate=traits.syllable_rate * (1 + 0.15 * arousal),
        tilt_db=max(0.0, traits.tilt_db + 1.8 - 1.8 * arousal),
        breath=traits.breath * 10 ** (-1.1 * kind),
        jitter=0.012 * 10 ** (-0.7 * kind),
        tract=traits.tract * (1 + 0.06 * kind),
    )


def _frame_index(phones: Sequence[TimedPhone], n_frames: int) -> NDArray[np.intp]:
    """Which sound each 5 ms frame belongs to; -1 before, after and between."""
    index = np.full(n_frames, -1, np.intp)
    for number, timed in enumerate(phones):
        start = round(timed.start_seconds * SAMPLE_RATE / _STEP)
        stop = round(timed.end_seconds * SAMPLE_RATE / _STEP)
        index[start:stop] = number
    return index


@dataclass(frozen=True)
class _Tracks:
    """Control tracks at 200 Hz: (frames,) each, formants (frames, 5)."""

    formants_hz: Signal
    voicing: Signal
    noise: Signal
    noise_hz: Signal
    pitch_hz: Signal


def _noise_level(timed: TimedPhone, position: Signal) -> Signal:
    """Friction over one sound, given the relative position 0..1 of each frame: a stop is silence, then a burst."""
    if timed.phone.kind == "stop":
        return np.where(position > 0.55, timed.phone.noise * np.exp(-(position - 0.55) / 0.25), 0.0)
    return np.full_like(position, timed.phone.noise)


def _voiced_weight(phones: Sequence[TimedPhone]) -> tuple[Signal, Signal]:
    """Times and voicing at the middle of each sound: what the pitch's mean is weighted with."""
    middles = [timed.start_seconds + 0.5 * timed.seconds for timed in phones]
    voicing = [timed.phone.voicing + 1e-6 for timed in phones]
    ends = [phones[0].start_seconds, phones[-1].end_seconds]
    return np.array([ends[0], *middles, ends[1]]), np.array([1e-6, *voicing, 1e-6])


def _pitch_track(phones: Sequence[TimedPhone], style: VoiceStyle, n_frames: int) -> Signal:
    seconds = np.arange(n_frames) * _STEP / SAMPLE_RATE
    start, stop = phones[0].start_seconds, phones[-1].end_seconds
    progress = np.clip((seconds - start) / (stop - start), 0, 1) - 0.5
    semitones = style.slope_semitones * progress
    for timed in phones:
        if timed.stressed:
            centre = timed.start_seconds + 0.5 * timed.seconds
            semitones += style.range_semitones * np.exp(-(((seconds - centre) / 0.09) ** 2))
    weight = np.interp(seconds, *_voiced_weight(phones))
    semitones -= np.average(semitones, weights=weight)
    pitch: Signal = style.pitch_hz * 2 ** (semitones / 12)
    return pitch


def _control(phones: Sequence[TimedPhone], style: VoiceStyle, n_frames: int) -> _Tracks:
    index = _frame_index(phones, n_frames)
    formants = np.tile(np.array([500.0, 1500.0, 2500.0]), (n_frames, 1))
    voicing, noise, noise_hz = np.zeros(n_frames), np.zeros(n_frames), np.full(n_frames, 3000.0)
    for number, timed in enumerate(phones):
        where = np.flatnonzero(index == number)
        if not len(where):
            continue
        phone = timed.phone
        formants[where] = phone.formants_hz
        voicing[where] = phone.voicing * (1.15 if timed.stressed else 0.85 if phone.kind == "vowel" else 1.0)
        noise[where] = _noise_level(timed, (where - where[0]) / len(where))
        noise_hz[where] = phone.noise_hz or 3000.0
    formants = gaussian_filter1d(formants, 3.5, axis=0, mode="nearest") * style.tract
    upper = np.tile(np.array([3500.0, 4500.0]) * style.tract, (n_frames, 1))
    return _Tracks(
        formants_hz=np.concatenate([formants, upper], axis=1),
        voicing=gaussian_filter1d(voicing, 2.0),
        noise=gaussian_filter1d(noise, 0.8),
        noise_hz=noise_hz,
        pitch_hz=_pitch_track(phones, style, n_frames),
    )


def _to_samples(track: Signal) -> Signal:
    n = len(track) * _STEP
    return np.interp(np.arange(n), np.arange(len(track)) * _STEP, track)


def _jittered_phase(pitch_hz: Signal, jitter: float, rng: np.random.Generator) -> tuple[Signal, NDArray[np.intp]]:
    """Phase in cycles within [0, 1) and the number of the cycle, with each cycle's length off by a random factor."""
    phase = np.cumsum(_to_samples(pitch_hz)) / SAMPLE_RATE
    cycles = int(phase[-1]) + 3
    edges = np.arange(cycles) + np.clip(rng.normal(0, jitter, cycles), -0.3, 0.3) * 0.7
    number = np.clip(np.searchsorted(edges, phase, side="right") - 1, 0, cycles - 2)
    within = (phase - edges[number]) / (edges[number + 1] - edges[number])
    return np.clip(within, 0, 1), number


def _pulses(tracks: _Tracks, style: VoiceStyle, rng: np.random.Generator) -> Signal:
    """Differentiated Rosenberg pulses: open for 40 % of the cycle, closing for 16 %; plus breath in the open phase."""
    within, number = _jittered_phase(tracks.pitch_hz, style.jitter, rng)
    opening, closing = 0.40, 0.16
    rise = 6 * within / opening * (1 - within / opening) / opening
    fall = -2 * (within - opening) / closing**2
    pulse = np.where(within < opening, rise, np.where(within < opening + closing, fall, 0.0)) * 0.1
    shimmer = 1 + np.clip(rng.normal(0, 4 * style.jitter, number.max() + 1), -0.5, 0.5)
    open_phase = np.where(within < opening + closing, 1.0, 0.3)
    breath = rng.normal(0, 1, len(within)) * open_phase * style.breath * 4
    return np.asarray((pulse * shimmer[number] + breath) * _to_samples(tracks.voicing))


def _tilt(signal: Signal, tilt_db: float) -> Signal:
    """One-pole low-pass at 500 Hz mixed in so that the fall by 4 kHz is three octaves times `tilt_db`."""
    decay = np.exp(-2 * np.pi * 500 / SAMPLE_RATE)
    dull = lfilter([1 - decay], [1, -decay], signal)
    share = 10 ** (-tilt_db * 3 / 20)
    return np.asarray(dull + share * (signal - dull))


def _resonator(centre_hz: Signal, bandwidth_hz: float) -> Signal:
    """Sections (frames, 6) of Klatt's digital resonators with unit gain at zero frequency."""
    radius = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE)
    c = -(radius**2)
    b = 2 * radius * np.cos(2 * np.pi * np.minimum(centre_hz, 7200) / SAMPLE_RATE)
    gain = 1 - b - c
    zero, one = np.zeros_like(b), np.ones_like(b)
    return np.stack([gain, zero, zero, one, -b, zero - c], axis=1)


def _filter_frames(signal: Signal, sections: NDArray[np.float64]) -> Signal:
    """Run frames of 5 ms through sections (frames, sections, 6), carrying the filter's state over."""
    out = np.empty_like(signal)
    state = np.zeros((sections.shape[1], 2))
    for frame, sos in enumerate(sections):
        piece = slice(frame * _STEP, (frame + 1) * _STEP)
        out[piece], state = sosfilt(sos, signal[piece], zi=state)
    return out


def _friction(tracks: _Tracks, rng: np.random.Generator) -> Signal:
    noise = rng.normal(0, 1, len(tracks.noise) * _STEP)
    sections = _resonator(tracks.noise_hz, 1400.0)[:, None]
    shaped = _filter_frames(noise, sections)
    shaped = np.diff(shaped, prepend=0.0)
    return np.asarray(shaped / (shaped.std() + 1e-9) * _to_samples(tracks.noise))


def speak(
    phones: Sequence[TimedPhone], style: VoiceStyle, seconds: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Synthesise the sounds.

    Args:
        phones: what to say, in order; none is silence.
        style: how to say it.
        seconds: length of the whole signal; silence (a faint room noise) fills what is not speech.
        rng: noise and jitter.

    Returns:
        Samples (n,) float32 at 16 kHz, within -1..1.
    """
    n = round(seconds * SAMPLE_RATE)
    room = rng.normal(0, 2e-4, n)
    if not phones:
        return np.asarray(room, np.float32)
    tracks = _control(phones, style, -(-n // _STEP))
    source = _tilt(_pulses(tracks, style, rng), style.tilt_db)
    sections = np.stack([_resonator(tracks.formants_hz[:, k], _BANDWIDTHS_HZ[k]) for k in range(5)], axis=1)
    voiced = _filter_frames(source, sections)
    talking = _to_samples(tracks.voicing) > 0.3
    if talking.any():
        voiced /= np.sqrt(np.mean(voiced[talking] ** 2)) + 1e-9
    mixed = (voiced + 0.9 * _friction(tracks, rng))[:n] * 10 ** (style.level_db / 20)
    return np.asarray(np.tanh(mixed + room), np.float32)
