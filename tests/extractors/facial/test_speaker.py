"""Synchrony from its formula, and the choice of a speaker from its rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.facial.speaker import AROUND_SECONDS, HOLD_SECONDS, LAG_SECONDS, SpeakerChoice, synchrony
from extractors.facial.speech_energy import RATE_HZ, SpeechEnergy

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


def conversation(stage: Any, seed: int, *, chews: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two who take turns every 4 s for 24 s, at 10 frames a second: who was chosen, who spoke.

    Landmarks have an error of half a millimetre; noise is 5 dB below the voice. With `chews`, who listens moves lips
    from half a second after the turn to one and a half seconds into the next.
    """
    turn, count, rng = 4.0, 240, np.random.default_rng(seed)
    starts = np.arange(6) * turn
    talk = [[stage.syllables(int(rng.integers(1e9)), a, a + turn) for a in starts[i::2]] for i in (0, 1)]
    chew = [
        [stage.syllables(int(rng.integers(1e9)), a + 0.5, a + turn + 1.5) for a in starts[1 - i :: 2]] for i in (0, 1)
    ]
    times = np.arange(count) / 10
    moves = [[*talk[i], *(chew[i] if chews else [])] for i in (0, 1)]
    lips = [np.array([0.35 * min(1.0, sum(one(t) for one in own)) for t in times]) for own in moves]
    lips = [own + rng.normal(0.0, 0.005, count) for own in lips]
    voice = stage.voice([one for own in talk for one in own], 24.0, RATE_HZ)
    voice = voice + rng.normal(0.0, np.std(voice) * 10 ** (-5 / 20), len(voice)).astype(np.float32)
    energy, choice, chosen = SpeechEnergy(10.0), SpeakerChoice(10.0), []
    energy.push(voice, 0)
    around, lags = round(AROUND_SECONDS * 10), round(LAG_SECONDS * 10)
    for k in range(count):
        levels = energy.levels(k - around, k + around + lags + 1)
        padded = [np.pad(own, around, constant_values=np.nan)[k : k + 2 * around + 1] for own in lips]
        scores = {i: synchrony(own, levels, lags) for i, own in enumerate(padded)}
        chosen.append(choice.choose(k, scores, {0: 100.0, 1: 100.0}, BOTH)[0])
    return np.array(chosen), (times // turn % 2).astype(int)


@pytest.mark.parametrize(("chews", "right"), [(False, 0.99), (True, 0.9)])
def test_turns_are_found_in_noise_whether_the_listener_sits_still_or_chews(
    stage: Any, chews: bool, right: float
) -> None:
    """Outside of 0.75 s around each turn."""
    away = np.abs(np.arange(240) % 40 - 20) <= 12
    found = [
        (chosen == truth)[away].mean() for chosen, truth in (conversation(stage, s, chews=chews) for s in range(4))
    ]
    assert np.mean(found) > right
