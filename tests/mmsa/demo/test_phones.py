from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsa.demo.phones import PHONES, pronounce, time_phones
from mmsa.demo.script import write_script

words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("word", "sounds"),
    [
        ("meeting", "M IY T IH NG"),
        ("phone", "F AO UH N"),
        ("nice", "N AA IH S"),
        ("show", "SH AO UH"),
        ("back", "B AE K"),
        ("station", "S T AE SH AH N"),
        ("the", "DH AH"),
    ],
)
def test_letters_to_sounds_by_hand(word, sounds):
    assert pronounce(word) == tuple(sounds.split())


@given(words)
def test_every_sound_is_known(word):
    assert set(pronounce(word)) <= set(PHONES)


@given(st.lists(words, min_size=1, max_size=10).map(" ".join), st.floats(0.6, 1.6))
def test_sounds_follow_each_other_without_gap_within_the_limits(transcript, rate):
    try:
        timed = time_phones(transcript, rate, 0.2, (1.5, 3.5))
    except ValueError:
        assert not any(pronounce(word) for word in transcript.split())
        return
    assert timed[0].start_seconds == 0.2
    for before, after in pairwise(timed):
        assert after.start_seconds == pytest.approx(before.end_seconds)
    assert 1.5 - 1e-6 <= timed[-1].end_seconds - 0.2 <= 3.5 + 1e-6


def test_rate_divides_durations():
    free = (0.0, float("inf"))
    slow, fast = (time_phones("the meeting was good", rate, 0.0, free) for rate in (1.0, 2.0))
    assert fast[-1].end_seconds == pytest.approx(slow[-1].end_seconds / 2)


def test_one_stress_per_content_word_on_its_first_vowel():
    stressed = [phone.name for phone in time_phones("The museum was wonderful.") if phone.stressed]
    assert stressed == [pronounce("museum")[1], pronounce("wonderful")[1]]


def test_commas_are_pauses_and_the_end_is_not():
    names = [phone.name for phone in time_phones("Well, it was good.")]
    assert names.count("_") == 1
    assert names[-1] != "_"


def test_every_word_of_the_corpus_is_spoken():
    for clip in write_script(0):
        spoken = clip.transcript.lower().replace(",", "").rstrip(".").split()
        assert all(any(PHONES[sound].kind == "vowel" for sound in pronounce(word)) for word in spoken)


def test_refuses_nothing_to_say():
    with pytest.raises(ValueError, match=r"transcript '\.\.\. 12' has no pronounceable word"):
        time_phones("... 12")
    with pytest.raises(ValueError, match="rate must be positive, not 0"):
        time_phones("yes", rate=0)
