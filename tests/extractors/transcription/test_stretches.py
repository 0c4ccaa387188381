"""Where sound is cut, by hand, and that blocks leave no trace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.transcription.stretches import Stretch, StretchCutter

RATE = 1000  # frames of 20 samples


def sound(*parts: tuple[float, float]) -> np.ndarray:
    """`(seconds, level)` one after the other, of alternating sign."""
    samples = np.concatenate([np.full(round(seconds * RATE), level, np.float32) for seconds, level in parts])
    samples[::2] *= -1
    return samples


def cut(samples: np.ndarray, longest: float = 10.0, blocks: Sequence[int] = (), **options: float) -> list[Stretch]:
    cutter = StretchCutter(RATE, longest, silence_db=-40.0, **options)
    found = [one for block in np.split(samples, sorted(blocks)) for one in cutter.push(block)]
    return [*found, *cutter.finish()]


def spans(found: Sequence[Stretch]) -> list[tuple[float, float]]:
    return [(one.first_sample / RATE, (one.first_sample + len(one.samples)) / RATE) for one in found]


def test_silence_is_left_out_but_for_a_margin() -> None:
    samples = sound((3.0, 0.001), (1.0, 0.3), (5.0, 0.0), (2.0, 0.3), (1.0, 0.3), (4.0, 0.001))
    assert spans(cut(samples)) == [(2.8, 4.2), (8.8, 12.2)]
    assert np.array_equal(cut(samples)[0].samples, samples[2800:4200])


def test_short_pauses_do_not_cut() -> None:
    assert spans(cut(sound((1.0, 0.3), (1.5, 0.0), (1.0, 0.3)))) == [(0.0, 3.5)]
    assert spans(cut(sound((1.0, 0.3), (1.5, 0.0), (1.0, 0.3)), pause_seconds=1.0)) == [(0.0, 1.2), (2.3, 3.5)]


def test_what_is_too_long_is_cut_where_its_second_half_is_quietest() -> None:
    samples = sound((2.0, 0.3), (0.4, 0.05), (5.6, 0.3), (0.4, 0.1), (3.6, 0.3))
    (first, second) = spans(cut(samples))
    assert first[0] == 0.0
    assert second[1] == 12.0
    assert first[1] == second[0]
    assert 8.0 <= first[1] <= 8.4  # and not at 2.0, where it is quieter, but in the first half


def test_sound_that_just_fits_is_not_cut() -> None:
    assert spans(cut(sound((10.0, 0.3)))) == [(0.0, 10.0)]
    assert len(cut(sound((10.02, 0.3)))) == 2


def test_clicks_and_silence_give_nothing() -> None:
    assert cut(sound((5.0, 0.001))) == []
    assert cut(sound((1.0, 0.0), (0.06, 0.5), (5.0, 0.0))) == []
    assert cut(np.zeros(0, np.float32)) == []


def test_a_last_frame_that_is_not_whole_is_not_filled_up() -> None:
    assert spans(cut(sound((1.013, 0.3)))) == [(0.0, 1.013)]


LONG = sound(
    (1, 0.3), (3, 0), (14, 0.2), (0.3, 0.02), (9, 0.25), (1, 0), (2, 0.3), (30, 0), (0.05, 1), (8, 0), (1.5, 0.4)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, len(LONG)), max_size=10))
def test_any_blocking_gives_the_same(blocks: list[int]) -> None:
    whole, found = cut(LONG), cut(LONG, blocks=blocks)
    assert spans(found) == spans(whole)
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(found, whole, strict=True))


def test_loud_sound_is_in_exactly_one_stretch_and_none_is_too_long() -> None:
    found = cut(LONG)
    held = np.zeros(len(LONG), int)
    for one in found:
        assert len(one.samples) <= 10 * RATE
        held[one.first_sample : one.first_sample + len(one.samples)] += 1
        assert np.array_equal(one.samples, LONG[one.first_sample : one.first_sample + len(one.samples)])
    click = slice(60300, 60350)
    loud = np.abs(LONG) > 0.1
    loud[click] = False
    assert held.max() == 1
    assert held[loud].all()
    assert not held[click].any()


def test_little_is_held() -> None:
    cutter = StretchCutter(RATE, 10.0, silence_db=-40.0)
    for level in (0.3, 0.0, 0.3):
        for _ in range(50):
            list(cutter.push(sound((1.0, level))))
            assert len(cutter._samples) <= 11 * RATE
