from collections import Counter

import pytest

from mmsa.demo.speakers import SPEAKERS, speaker_named


def test_twelve_train_four_validate_four_test():
    assert Counter(speaker.split for speaker in SPEAKERS) == {"train": 12, "valid": 4, "test": 4}


def test_nobody_looks_or_sounds_like_another():
    assert len({speaker.look for speaker in SPEAKERS}) == len(SPEAKERS)
    assert len({speaker.voice for speaker in SPEAKERS}) == len(SPEAKERS)
    assert len({speaker.id for speaker in SPEAKERS}) == len(SPEAKERS)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_every_split_has_low_and_high_voices(split):
    pitches = [speaker.voice.pitch_hz for speaker in SPEAKERS if speaker.split == split]
    assert min(pitches) < 150 < 170 < max(pitches)


def test_by_name():
    assert speaker_named("s07") is SPEAKERS[7]
    with pytest.raises(ValueError, match=r"no speaker 's99': the cast is s00 to s19"):
        speaker_named("s99")
