from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsa.demo.motion import FRAME_RATE, face_track
from mmsa.demo.phones import time_phones
from mmsa.demo.script import Expression

PHONES = time_phones("My mother saw the big palm and the apple farm on Monday.")


def track(expression=Expression(), seed=0, phones=PHONES, n_frames=100):  # noqa: B008
    return face_track(phones, expression, n_frames, np.random.default_rng(seed))


def values(states, name):
    return np.array([getattr(state, name) for state in states])


def test_lips_close_on_labials_and_open_on_open_vowels():
    jaw = values(track(), "jaw")

    def at(names):
        middles = [p.start_seconds + p.seconds / 2 for p in PHONES if p.name in names]
        return np.interp(middles, np.arange(100) / FRAME_RATE, jaw)

    assert at({"M", "B", "P"}).mean() < 0.6 * at({"AA", "AE", "AO"}).mean()
    assert jaw[: round(0.1 * FRAME_RATE)].max() < 0.02
    assert jaw[round((PHONES[-1].end_seconds + 0.15) * FRAME_RATE) :].max() < 0.05


def test_no_speech_no_lip_movement():
    assert values(track(phones=()), "jaw").max() == 0


@pytest.mark.parametrize(("face", "brow"), [(3, 1), (-3, -1), (3, -1), (-1.5, 0.6)])
def test_expression_shows_on_its_own_feature(face, brow):
    states = track(Expression(face=face, brow=brow))
    assert values(states, "smile")[15:].mean() == pytest.approx(face / 3, abs=0.15)
    assert values(states, "brow")[15:].mean() == pytest.approx(brow, abs=0.15)


@given(st.integers(-3, 3), st.floats(-3, 3), st.floats(-1, 1), st.integers(0, 999))
def test_the_face_knows_nothing_of_words_and_voice(text, voice, arousal, seed):
    shown = Expression(face=1.0, brow=-0.5)
    assert track(replace(shown, text=text, voice=voice, arousal=arousal), seed) == track(shown, seed)


@settings(max_examples=20)
@given(st.floats(-3, 3), st.floats(-1, 1), st.integers(0, 999))
def test_every_state_is_drawable(face, brow, seed):
    states = track(Expression(face=face, brow=brow), seed, n_frames=250)
    limits = {"smile": (-1.1, 1.1), "brow": (-1.1, 1.1), "jaw": (0, 1.1), "rounding": (0, 1), "eyes": (0, 1.4)}
    for name, (low, high) in limits.items():
        assert values(states, name).min() >= low
        assert values(states, name).max() <= high
    assert np.abs(values(states, "yaw")).max() < 0.35


def test_people_blink_every_few_seconds():
    eyes = values(track(n_frames=1000, phones=()), "eyes")
    blinks = np.sum((eyes[1:] < 0.5) & (eyes[:-1] >= 0.5))
    assert 40 / 4.0 - 1 <= blinks <= 40 / 2.0 + 1
    assert np.mean(eyes < 0.5) < 0.12


def test_heads_move():
    states = track(n_frames=250)
    assert all(values(states, name).std() > 0.01 for name in ("yaw", "pitch", "roll", "shift_x", "gaze_x"))
