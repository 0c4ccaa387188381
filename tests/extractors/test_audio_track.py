"""Sound on one timeline: rates, layouts, gaps, overlaps, cuts."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.audio_track import AudioTrack, AudioTracks

RATE = 16000


def audio_frame(samples: np.ndarray, rate: int, sample_format: str = "fltp") -> av.AudioFrame:
    channels = np.ascontiguousarray(np.atleast_2d(samples))
    frame = av.AudioFrame.from_ndarray(channels, sample_format, "mono" if len(channels) == 1 else "stereo")
    frame.sample_rate = rate
    return frame


def run(pieces: Sequence[tuple[np.ndarray, float | None]], rate: int, **options: object) -> np.ndarray:
    """What comes out when `(samples, seconds)` go in."""
    blocks: list[np.ndarray] = []
    track = AudioTrack(RATE, blocks.append, **options)  # type: ignore[arg-type]
    for samples, seconds in pieces:
        track.feed(audio_frame(samples, rate), seconds)
    track.finish()
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def sine(seconds: float, rate: int, start: float = 0.0, hz: float = 300.0) -> np.ndarray:
    t = start + np.arange(round(seconds * rate)) / rate
    return np.sin(2 * np.pi * hz * t).astype(np.float32)


@pytest.mark.parametrize(
    ("first", "end", "missing"),
    [(0, None, 0.5), (0, 8000, 0.4), (3200, None, 0.4), (4800, 6400, 0.1), (9600, None, 0.0), (0, 1600, 0.0)],
)
def test_how_much_is_missing_within_the_clip_is_known(first: int, end: int | None, missing: float) -> None:
    """Sound from 0 to 0.1 s and from 0.6 s on, and once more a piece that overlaps, which is no gap."""
    tenth = np.ones(1600, np.float32)
    track = AudioTrack(RATE, lambda block: None, first_sample=first, end_sample=end)
    for seconds in (0.0, 0.6, 0.7, 0.62, 0.8):
        track.feed(audio_frame(tenth, RATE), seconds)
    track.finish()
    assert track.gap_seconds == pytest.approx(missing)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_resampling_keeps_time_and_level(rate: int) -> None:
    out = run([(sine(1.0, rate), 0.0)], rate)
    assert abs(len(out) - RATE) <= 16
    middle = slice(1000, 15000)
    assert np.abs(out[middle] - sine(1.0, RATE)[middle]).max() < 0.02


def test_stereo_becomes_the_mean_of_its_channels() -> None:
    left, right = sine(0.5, RATE), 0.5 * sine(0.5, RATE, hz=500.0)
    out = run([(np.stack([left, right]), 0.0)], RATE)
    assert np.abs(out - (left + right) / 2).max() < 1e-4


def test_a_gap_is_zeros_and_an_overlap_keeps_the_first() -> None:
    ones = np.ones(1600, np.float32)
    out = run([(ones, 0.0), (2 * ones, 0.3)], RATE)
    assert np.array_equal(out, np.concatenate([ones, np.zeros(3200), 2 * ones]).astype(np.float32))
    out = run([(np.ones(3200, np.float32), 0.0), (2 * np.ones(3200, np.float32), 0.1)], RATE)
    assert np.array_equal(out, np.concatenate([np.ones(3200), 2 * np.ones(1600)]).astype(np.float32))


def test_late_sound_starts_with_zeros() -> None:
    out = run([(np.ones(160, np.float32), 0.25)], RATE)
    assert np.array_equal(out, np.concatenate([np.zeros(4000), np.ones(160)]).astype(np.float32))


def test_millisecond_rounding_leaves_no_seams() -> None:
    whole = sine(2.0, RATE)
    pieces = [(whole[i : i + 341], round(i / RATE, 3)) for i in range(0, len(whole), 341)]
    assert np.array_equal(run(pieces, RATE), whole)


def test_unknown_and_impossible_timestamps_continue_the_run() -> None:
    whole = sine(0.3, RATE)
    pieces = [(whole[:1600], 0.0), (whole[1600:3200], None), (whole[3200:], 1e12)]
    assert np.array_equal(run(pieces, RATE, latest_seconds=60.0), whole)


def test_a_change_of_rate_in_the_middle() -> None:
    blocks: list[np.ndarray] = []
    track = AudioTrack(RATE, blocks.append)
    track.feed(audio_frame(sine(0.5, 48000), 48000), 0.0)
    track.feed(audio_frame(sine(0.5, 8000, start=0.5), 8000), 0.5)
    track.finish()
    out = np.concatenate(blocks)
    expected = sine(1.0, RATE)
    assert abs(len(out) - RATE) <= 32
    for part in (slice(500, 7500), slice(8500, 15500)):
        assert np.abs(out[part] - expected[part]).max() < 0.02


@given(st.integers(0, 20000), st.integers(1, 20000), st.sampled_from([8000, 16000, 44100]))
def test_a_cut_equals_the_same_span_of_the_whole(first: int, count: int, rate: int) -> None:
    noise = np.random.default_rng(5).standard_normal(rate * 2).astype(np.float32)
    step = rate // 40
    pieces = [(noise[i : i + step], i / rate) for i in range(0, len(noise), step)]
    whole = run(pieces, rate)
    cut = run(pieces, rate, first_sample=first, end_sample=first + count)
    assert np.abs(cut - whole[first : first + count]).max(initial=0.0) < 1e-4
    assert len(cut) == len(whole[first : first + count])


def test_blocks_are_bounded_and_damage_becomes_silence() -> None:
    blocks: list[np.ndarray] = []
    track = AudioTrack(RATE, blocks.append)
    damaged = np.ones(RATE, np.float32)
    damaged[[5, 9]] = np.nan, np.inf
    for second in range(60):
        track.feed(audio_frame(damaged, RATE), float(second))
    track.finish()
    assert max(len(block) for block in blocks) <= 6 * RATE
    out = np.concatenate(blocks)
    assert len(out) == 60 * RATE
    assert np.flatnonzero(out[:RATE] == 0).tolist() == [5, 9]


def test_blocks_may_be_short_and_hold_the_same_samples() -> None:
    pieces = [(sine(0.02, RATE, start=k / 50), k / 50) for k in range(100)]
    blocks: list[np.ndarray] = []
    track = AudioTrack(RATE, blocks.append, block_seconds=0.1)
    for samples, seconds in pieces:
        track.feed(audio_frame(samples, RATE), seconds)
    assert [len(block) for block in blocks[:-1]] == [RATE // 10] * (len(blocks) - 1)
    assert len(blocks) >= 19
    track.finish()
    assert np.array_equal(np.concatenate(blocks), run(pieces, RATE))


def test_done_after_the_last_wanted_sample() -> None:
    track = AudioTrack(RATE, lambda block: None, end_sample=RATE)
    track.feed(audio_frame(np.ones(RATE - 1, np.float32), RATE), 0.0)
    assert not track.done
    track.feed(audio_frame(np.ones(10, np.float32), RATE), (RATE - 1) / RATE)
    assert track.done


def test_several_tracks_hear_the_same_each_at_its_rate_over_its_part() -> None:
    pieces = [(sine(0.5, 48000, start=k / 2), k / 2) for k in range(6)]
    halves: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    tracks = AudioTracks(
        [
            AudioTrack(8000, halves.append, end_sample=8000),
            AudioTrack(RATE, parts.append, first_sample=RATE, end_sample=2 * RATE),
        ]
    )
    given = 0
    for samples, seconds in pieces:
        if not tracks.done:
            tracks.feed(audio_frame(samples, 48000), seconds)
            given += 1
    tracks.finish()
    assert given == 5  # the resampler holds a little back at two seconds
    assert tracks.frames == 5
    assert tracks.end_seconds == pytest.approx(2.5)
    assert np.array_equal(np.concatenate(parts), run(pieces, 48000, first_sample=RATE, end_sample=2 * RATE))
    assert np.abs(np.concatenate(halves) - run(pieces, 48000, end_sample=2 * 8000)[::2]).max() < 0.05
