from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.robustness.frames import WorseFrames
from mmsa.robustness.noise import NOISES, Damage, checked_noise, parse_noise
from mmsa.robustness.sound import NoisyAudio
from mmsa.robustness.words import word_error_rate
from mmsa.tasks import Regression

SAID = "the film was not as good as I had hoped it would be"


def corpus(media: Path | None = None) -> Corpus:
    clips = [Clip(str(i), ("train", "test")[i % 2], {}, media, SAID if i < 60 else None) for i in range(64)]
    return Corpus("c", tuple(clips), (Regression("sentiment", -1, 1),))


def test_levels_are_read() -> None:
    assert parse_noise(["audio=20,10,0", "vision-drop=0.2", "text=.1"]) == {
        "audio": (20.0, 10.0, 0.0),
        "vision-drop": (0.2,),
        "text": (0.1,),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["audoi=20"], "there is no noise 'audoi'. Did you mean 'audio'?"),
        (["audio"], "--noise takes KIND=LEVEL,LEVEL,… such as audio=20,10,0"),
        (["audio="], "levels of audio are its white noise: signal-to-noise ratio, dB"),
        (["text=0.1,much"], "not 'text=0.1,much'"),
        (["text=0.1", "text=0.2"], "--noise text is given twice: give all its levels at once"),
    ],
    ids=str,
)
def test_what_is_no_noise_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_noise(given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "level"),
    [("text", 1.5), ("vision-drop", -0.1), ("vision-blur", 0), ("audio", 1000), ("audio", float("nan"))],
)
def test_levels_out_of_range_are_refused(name: str, level: float) -> None:
    with pytest.raises(UsageError, match=f"--noise {name} takes levels from .* not {level:g}"):
        checked_noise({name: [level]})


def test_the_mildest_level_comes_first_and_none_twice() -> None:
    ((audio, snr), (text, rates)) = checked_noise({"audio": [0, 20, 10, 20], "text": [0.3, 0.1]})
    assert (audio.name, snr) == ("audio", (20, 10, 0))
    assert (text.name, rates) == ("text", (0.1, 0.3))
    with pytest.raises(UsageError, match="no levels are given for the noise 'text'"):
        checked_noise({"text": []})
    with pytest.raises(UsageError, match="there is no noise 'txt'"):
        checked_noise({"txt": [1]})


def test_steps_are_whole_numbers_of_their_unit() -> None:
    assert NOISES["audio"].step(-5) == -5
    assert NOISES["text"].step(0.15) == 15
    assert NOISES["vision-drop"].step(0.29) == 29  # not 28, though 0.29 * 100 lies below 29
    assert NOISES["vision-blur"].step(1.5) == 150


def test_audio_and_vision_are_damaged_before_their_extractors(small: Any, write_wav: Any, tmp_path: Path) -> None:
    media = write_wav(tmp_path / "a.wav", [0.25, 0.5, 0.25])
    whole = corpus(media)
    damage = Damage(whole, "test", 3)
    for name, colour in (("audio", "white"), ("audio-pink", "pink"), ("audio-babble", "babble")):
        same, noisy = damage.apply(NOISES[name], 5, whole, small.Loudness())
        assert same is whole
        assert isinstance(noisy, NoisyAudio)
        assert (noisy.colour, noisy.snr_db, noisy.seed) == (colour, 5, 3)
    _, dropped = damage.apply(NOISES["vision-drop"], 0.5, whole, small.Brightness())
    _, blurred = damage.apply(NOISES["vision-blur"], 2.5, whole, small.Brightness())
    assert isinstance(dropped, WorseFrames)
    assert isinstance(blurred, WorseFrames)
    assert (dropped.drop, dropped.blur_pixels, blurred.drop, blurred.blur_pixels) == (0.5, 0, 0, 2.5)
    assert (dropped.seed, blurred.seed) == (3, 3)
    assert damage.realised(NOISES["audio"], whole, whole) is None


def test_babble_is_of_other_splits(small: Any, write_wav: Any, tmp_path: Path) -> None:
    loud = corpus(write_wav(tmp_path / "a.wav", [0.25, 0.5]))
    silent = write_wav(tmp_path / "b.wav", [0.0, 0.0])
    clips = tuple(replace(clip, media=silent) if clip.split == "train" else clip for clip in loud.clips)
    with pytest.raises(UsageError, match="no clip of c has sound to make babble of"):
        Damage(replace(loud, clips=clips), "test", 0).apply(NOISES["audio-babble"], 5, loud, small.Loudness())


def test_transcripts_are_misheard_clip_by_clip(small: Any) -> None:
    """Alike words in two clips get errors of their own, and the realised rate is that of the transcripts."""
    whole = corpus()
    damage = Damage(whole, "test", 0)
    reader = small.WordLengths()
    heard, same = damage.apply(NOISES["text"], 0.3, whole, reader)
    assert same is reader
    assert [clip.id for clip in heard.clips] == [clip.id for clip in whole.clips]
    texts = [clip.transcript for clip in heard.clips]
    assert texts[60:] == [None] * 4
    assert len(set(texts[:60])) > 40
    assert damage.apply(NOISES["text"], 0.3, whole, reader)[0] == heard
    tested = [text or "" for text in texts[1::2]]
    expected = word_error_rate([SAID] * 30, tested[:30])
    assert damage.realised(NOISES["text"], whole, heard) == expected
    assert expected == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 360))


def test_words_come_from_the_whole_corpus(small: Any) -> None:
    """Though only some clips are under test."""
    whole = corpus()
    rich = replace(whole, clips=(*whole.clips, Clip("more", "train", {}, None, "goood goad food")))
    few = replace(rich, clips=rich.split("test"))
    heard, _ = Damage(rich, "test", 0).apply(NOISES["text"], 1.0, few, small.WordLengths())
    assert {"goad", "food"} & {word for clip in heard.clips for word in (clip.transcript or "").split()}


def test_an_extractor_of_another_kind_is_refused(small: Any) -> None:
    with pytest.raises(UsageError, match="--noise audio cannot be laid under small_extractors:WordLengths"):
        Damage(corpus(), "test", 0).apply(NOISES["audio"], 5, corpus(), small.WordLengths())
