from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.errors import UsageError
from mmsa.paths import cache_dir
from mmsa.robustness import babble
from mmsa.robustness.babble import SECONDS, VOICES, make_babble, mix
from mmsa.tasks import Regression

RATE = 8000


def tone(path: Path, hertz: float, seconds: float = 1.0, level: float = 0.4) -> Path:
    time = np.arange(int(seconds * RATE)) / RATE
    samples = np.round(level * 32767 * np.sin(2 * np.pi * hertz * time)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def corpus(tmp_path: Path, places: dict[float, tuple[Split, str]]) -> Corpus:
    """One clip per tone, with its split and speaker; all are equally long, at levels of their own."""
    clips = [
        Clip(str(hertz), split, {}, tone(tmp_path / f"{hertz}.wav", hertz, level=0.1 + hertz / 5000), speaker=who)
        for hertz, (split, who) in places.items()
    ]
    return Corpus("tones", tuple(clips), (Regression("sentiment", -1, 1),))


def powers(path: Path, frequencies: list[float]) -> dict[float, float]:
    """The power of each tone in a recording, by correlation with it."""
    samples = np.load(path).astype(float)
    time = np.arange(len(samples)) / RATE
    return {
        hertz: float(abs(np.exp(-2j * np.pi * hertz * time) @ samples / len(samples)) ** 2) for hertz in frequencies
    }


def test_voices_are_of_other_splits_and_speakers_and_equally_loud(tmp_path: Path) -> None:
    """More clips than voices: one of each speaker is taken before the second of any, none of the split under test."""
    talkative = {200.0 + 20 * i: ("train", "a") for i in range(20)}
    others = {1000.0 + 100 * i: ("valid", f"b{i}") for i in range(VOICES - 1)}
    tested = {2000.0 + 100 * i: ("test", f"c{i}") for i in range(3)}
    whole = corpus(tmp_path, {**talkative, **others, **tested})  # type: ignore[dict-item]
    path = make_babble(whole, "test", RATE)
    samples = np.load(path)
    assert samples.dtype == np.float32
    assert len(samples) == SECONDS * RATE
    assert np.abs(samples).max() == 1.0
    found = powers(path, [*talkative, *others, *tested])
    loudest = max(found.values())
    heard = {hertz for hertz, power in found.items() if power > 0.5 * loudest}
    assert set(others) < heard
    assert len(heard & set(talkative)) == 1
    for hertz in heard:
        assert found[hertz] == pytest.approx(loudest, rel=0.02)
    assert all(found[hertz] < 1e-3 * loudest for hertz in set(found) - heard)


def test_it_is_made_once_and_another_seed_takes_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = corpus(tmp_path, {200.0 + 20 * i: ("train", f"s{i}") for i in range(30)})
    path = make_babble(whole, "test", RATE)
    assert path.is_relative_to(cache_dir())
    monkeypatch.setattr(babble, "mix", lambda *_: pytest.fail("made again"))
    assert make_babble(whole, "test", RATE) == path
    monkeypatch.undo()
    assert not list(path.parent.glob("*.part"))


def test_another_seed_takes_other_clips(tmp_path: Path) -> None:
    whole = corpus(tmp_path, {200.0 + 20 * i: ("train", f"s{i}") for i in range(30)})
    first, second = (make_babble(whole, "test", RATE, seed=seed) for seed in (0, 1))
    assert first != second
    assert not np.array_equal(np.load(first), np.load(second))


def test_a_segment_is_taken_from_where_it_lies(tmp_path: Path) -> None:
    """A file that changes its tone after a second; the clip is the second half."""
    time = np.arange(2 * RATE) / RATE
    samples = np.where(time < 1, np.sin(2 * np.pi * 300 * time), np.sin(2 * np.pi * 700 * time)) * 16000
    with wave.open(str(tmp_path / "two.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    clip = Clip("x", "train", {}, tmp_path / "two.wav", start_seconds=1.0, end_seconds=2.0)
    path = make_babble(Corpus("two", (clip,), (Regression("s", -1, 1),)), "test", RATE)
    found = powers(path, [300.0, 700.0])
    assert found[300.0] < 1e-3 * found[700.0]


def test_a_corpus_with_nothing_but_the_split_under_test_lends_its_own(tmp_path: Path) -> None:
    assert make_babble(corpus(tmp_path, {440.0: ("test", "a")}), "test", RATE).is_file()


def test_unreadable_and_silent_files_are_passed_over(tmp_path: Path) -> None:
    whole = corpus(tmp_path, {440.0: ("train", "a"), 500.0: ("train", "b"), 600.0: ("train", "c")})
    (tmp_path / "500.0.wav").write_bytes(b"no sound at all")
    tone(tmp_path / "600.0.wav", 600, level=0.0)
    found = powers(make_babble(whole, "test", RATE), [440.0])
    assert found[440.0] == pytest.approx(0.25, rel=0.01)  # alone, at full scale: half the amplitude, squared
    (tmp_path / "440.0.wav").write_bytes(b"nothing here either")
    with pytest.raises(UsageError, match="no clip of tones has sound to make babble of: use white or pink noise"):
        make_babble(whole, "test", RATE)


def test_a_mix_of_sounds_by_hand() -> None:
    """Two voices of unequal loudness and length: both at unit power, the shorter repeated."""
    loud, quiet = np.array([3.0, -3.0, 3.0, -3.0]), np.array([0.5, 0.5])
    sounds: Any = [loud.astype(np.float32), quiet.astype(np.float32)]
    np.testing.assert_allclose(mix(sounds, 6, "x"), np.array([2, 0, 2, 0, 2, 0]) / 2)
