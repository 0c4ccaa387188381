"""Synchrony from its formula, and the choice of a speaker from its rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.facial.speaker import HOLD_SECONDS, SpeakerChoice, synchrony

RNG = np.random.default_rng(3)
MOUTH = np.abs(RNG.normal(0.0, 0.1, 60))
LOUD = -30.0 + 100.0 * MOUTH


class TestSynchrony:
    def test_it_is_pearsons_correlation(self) -> None:
        noisy = LOUD[:31] + RNG.normal(0.0, 5.0, 31)
        assert synchrony(MOUTH[:31], noisy, 0) == pytest.approx(np.corrcoef(MOUTH[:31], noisy)[0, 1])
        assert synchrony(MOUTH[:31], LOUD[:31], 0) == pytest.approx(1.0)
        assert synchrony(MOUTH[:31], -60.0 - LOUD[:31], 0) == pytest.approx(-1.0)

    def test_lips_may_be_ahead_by_the_lags_and_no_more(self) -> None:
        assert synchrony(MOUTH[2:33], LOUD[:33], 2) == pytest.approx(1.0)
        assert synchrony(MOUTH[3:34], LOUD[:33], 2) < 0.6
        assert synchrony(MOUTH[0:31], LOUD[2:35], 2) < 0.6  # the sound is ahead

    def test_frames_without_a_face_or_without_sound_do_not_count(self) -> None:
        mouth, loud = MOUTH[:31].copy(), LOUD[:31].copy()
        mouth[:8], loud[20:24] = np.nan, np.nan
        assert synchrony(mouth, loud, 0) == pytest.approx(1.0)
        mouth[8:16] = np.nan
        assert synchrony(mouth, loud, 0) == 0.0  # 11 of 31 are left

    @pytest.mark.parametrize(
        ("mouth", "loud"),
        [
            (MOUTH[:31], LOUD[:31] - 60.0),  # silence
            (MOUTH[:31], -20.0 + 0.05 * LOUD[:31]),  # an even hum
            (0.1 * MOUTH[:31], LOUD[:31]),  # lips that stand still
            (MOUTH[:31], np.full(31, np.nan)),  # no sound
        ],
    )
    def test_no_evidence(self, mouth: np.ndarray, loud: np.ndarray) -> None:
        assert synchrony(mouth, loud, 0) == 0.0

    def test_noise_below_speech_says_nothing(self) -> None:
        """A pause that is 60 or 80 dB down is a pause."""
        mouth, loud = MOUTH[:31].copy(), LOUD[:31].copy()
        mouth[10:20] = 0.0
        deep, deeper = loud.copy(), loud.copy()
        deep[10:20], deeper[10:20] = loud.max() - 60.0, loud.max() - 80.0
        assert synchrony(mouth, deep, 0) == synchrony(mouth, deeper, 0)

    @settings(max_examples=50, deadline=None)
    @given(st.floats(0.5, 3.0), st.floats(-0.1, 0.5), st.floats(-10.0, 10.0))
    def test_anatomy_and_volume_do_not_matter(self, wide: float, open_: float, volume: float) -> None:
        noisy = LOUD[:31] + np.random.default_rng(1).normal(0.0, 5.0, 31)
        there = synchrony(wide * MOUTH[:31] + open_, noisy + volume, 0)
        assert there == pytest.approx(synchrony(MOUTH[:31], noisy, 0))


BOTH = frozenset({0, 1})
SIZES = {0: 100.0, 1: 110.0}


def choose(choice: SpeakerChoice, frame: int, left: float, right: float) -> tuple[int | None, bool]:
    return choice.choose(frame, {0: left, 1: right}, SIZES, BOTH)


class TestChoice:
    def test_the_larger_stands_in_until_somebody_speaks(self) -> None:
        choice = SpeakerChoice(10.0)
        assert choose(choice, 0, 0.39, 0.0) == (1, False)
        assert choose(choice, 1, 0.41, 0.0) == (0, True)

    def test_a_speaker_is_kept_until_another_fits_clearly_better(self) -> None:
        choice = SpeakerChoice(10.0)
        assert choose(choice, 0, 0.5, 0.45) == (0, True)
        assert choose(choice, 1, 0.4, 0.54) == (0, True)
        assert choose(choice, 2, 0.4, 0.56) == (1, True)
        assert choose(choice, 3, 0.65, 0.55) == (1, True)
        assert choose(choice, 4, 0.45, 0.1) == (0, True)

    def test_and_through_a_pause_but_not_for_ever(self) -> None:
        choice = SpeakerChoice(10.0)
        choose(choice, 0, 0.5, 0.0)
        last = round(HOLD_SECONDS * 10)
        assert [choose(choice, k, 0.0, 0.0) for k in range(1, last + 1)] == [(0, True)] * last
        assert choose(choice, last + 1, 0.0, 0.0) == (1, False)

    def test_while_the_speaker_is_not_seen_nobody_is_chosen(self) -> None:
        choice = SpeakerChoice(10.0)
        choose(choice, 0, 0.6, 0.0)
        assert choice.choose(1, {0: 0.6, 1: 0.0}, SIZES, frozenset({1})) == (None, True)
        assert choice.choose(2, {0: 0.6, 1: 0.0}, SIZES, BOTH) == (0, True)

    def test_who_stands_in_changes_only_for_one_a_quarter_larger(self) -> None:
        choice = SpeakerChoice(10.0)
        none = {0: 0.0, 1: 0.0}
        assert choice.choose(0, none, {0: 100.0, 1: 90.0}, BOTH) == (0, False)
        assert choice.choose(1, none, {0: 100.0, 1: 124.0}, BOTH) == (0, False)
        assert choice.choose(2, none, {0: 100.0, 1: 126.0}, BOTH) == (1, False)
        assert choice.choose(3, none, {0: 100.0, 1: 126.0}, frozenset({0})) == (0, False)
        assert choice.choose(4, {}, {}, frozenset()) == (None, False)
