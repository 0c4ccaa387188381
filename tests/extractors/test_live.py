"""Live windows are those of the recording while everything keeps up; what does not is dropped and counted."""

from __future__ import annotations

import threading
import time
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import extractors
from extractors.base import AudioExtractor, AudioStream, VisionExtractor, VisionStream
from extractors.errors import MediaError
from extractors.extraction import Extraction
from extractors.live import LiveReader, warm_up, watch
from extractors.live_source import LiveSource
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from extractors.windows import Sliding, Window, extract_windows
from tests.extractors.conftest import Listener

Media = Callable[..., Path]


class Clocked(AudioExtractor):
    """One step per tenth of a second, whose value is the sound's mean level; `push` takes a while."""

    rolling = True

    def __init__(self, push_seconds: float = 0.0) -> None:
        self.sample_rate_hz, self.hop_samples = 8000, 800
        self.names = ("level",)
        self.spec = ExtractorSpec("tests:Clocked", "numpy", "1", {})
        self.push_seconds = push_seconds

    def stream(self, first_sample: int = 0) -> AudioStream:
        return ClockedStream(self, first_sample)


class ClockedStream(AudioStream):
    def __init__(self, extractor: Clocked, first: int) -> None:
        self.extractor, self.first, self.samples = extractor, first, np.zeros(0, np.float32)

    def push(self, samples: NDArray[np.float32]) -> None:
        time.sleep(self.extractor.push_seconds * len(samples) / 8000)
        self.samples = np.concatenate([self.samples, samples])

    def finish(self) -> FeatureSequence:
        rows = np.abs(self.samples[: len(self.samples) // 800 * 800]).reshape(-1, 800).mean(axis=1, keepdims=True)
        starts = self.first / 8000 + np.arange(len(rows)) / 10
        return FeatureSequence(rows.astype(np.float32), np.stack([starts, starts + 0.1], axis=1), ("level",))

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        found = self.finish().between(start_seconds, end_seconds)
        return found, "" if len(found) else "nothing"

    def forget(self, before_seconds: float) -> None:
        old = max(0, int(before_seconds * 10) * 800 - self.first)
        self.samples, self.first = self.samples[old:], self.first + old


class Watching(VisionExtractor):
    """The number that each frame carries; looking at one takes a while."""

    rolling = True

    def __init__(self, read: Callable[[np.ndarray], int], look_seconds: float) -> None:
        self.frames_per_second, self.max_side_pixels = 10.0, 320
        self.names = ("number",)
        self.spec = ExtractorSpec("tests:Watching", "numpy", "1", {})
        self.read, self.look_seconds = read, look_seconds

    def stream(self) -> VisionStream:
        return WatchingStream(self)


class WatchingStream(VisionStream):
    def __init__(self, extractor: Watching) -> None:
        self.extractor, self.steps = extractor, dict[int, int]()

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        time.sleep(self.extractor.look_seconds)
        self.steps.update(dict.fromkeys(indices, self.extractor.read(image)))

    def finish(self) -> FeatureSequence:
        return self.window(0.0, 1e6)[0]

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        mine = {k: v for k, v in self.steps.items() if start_seconds <= (k + 0.5) / 10 < end_seconds}
        start = np.array(list(mine), np.float64)
        values = np.array(list(mine.values()), np.float32).reshape(-1, 1)
        return FeatureSequence(values, np.stack([start, start + 1], axis=1) / 10, ("number",)), ""

    def forget(self, before_seconds: float) -> None:
        self.steps = {k: v for k, v in self.steps.items() if (k + 0.5) / 10 >= before_seconds}


@pytest.fixture
def talk(media: Media, numbered: Callable[..., list[np.ndarray]], make_tone: Callable[..., np.ndarray]) -> Path:
    """Three seconds of numbered frames, ten a second, and a tone that rises."""
    tones = np.concatenate([make_tone(1.0, hz=150 + 40 * k) for k in range(3)])
    return media("talk.mp4", frames=numbered(30), fps=10, samples=tones)


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """Four seconds at 8 kHz whose level is 0.2 times the time in seconds."""
    path = tmp_path / "ramp.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.round(np.arange(4 * 8000) / 8000 * 0.2 * 32768).astype("<i2").tobytes())
    return path


def given(reader: LiveReader, pause_seconds: float = 0.0) -> list[Window]:
    found = []
    for window in reader:
        found.append(window)
        time.sleep(pause_seconds)
    return found


def check_counts(reader: LiveReader, windows: list[Window]) -> None:
    """What is not given up to the last one is counted, each once."""
    numbers = [window.number for window in windows]
    assert numbers == sorted(set(numbers))
    assert reader.counts.windows == len(numbers)
    assert reader.counts.dropped_windows == numbers[-1] + 1 - len(numbers)


def test_who_keeps_up_gets_the_windows_of_the_recording(talk: Path) -> None:
    chosen = {
        "audio": extractors.build("speech.librosa"),
        "vision": extractors.build("vision.colour"),
        "text": extractors.build("text.lexical"),
    }
    warm_up(chosen)
    reader = watch(LiveSource.of(str(talk)), chosen, Sliding(1.0, 0.5), max_latency_seconds=60)
    live, recorded = given(reader), list(extract_windows(talk, chosen, Sliding(1.0, 0.5)))
    assert [(w.number, w.start_seconds, w.end_seconds) for w in live] == [
        (w.number, w.start_seconds, w.end_seconds) for w in recorded
    ]
    for one, expected in zip(live, recorded, strict=True):
        assert list(one.extraction.sequences) == list(expected.extraction.sequences)
        assert one.extraction.missing == expected.extraction.missing == {"text": "no transcript"}
        for key in ("audio", "vision"):
            found, wanted = one.extraction.sequences[key], expected.extraction.sequences[key]
            np.testing.assert_array_equal(found.times, wanted.times)
            np.testing.assert_allclose(found.values, wanted.values, rtol=1e-5, atol=1e-5)
    check_counts(reader, live)
    assert reader.counts.dropped_windows == reader.counts.dropped_frames == reader.counts.skipped_seconds == 0
    assert reader.duration_seconds == pytest.approx(3.0, abs=0.1)


def test_a_caller_who_is_slow_gets_the_newest(ramp: Path) -> None:
    """Fifteen windows in four seconds, of which the caller manages one in 0.8 s."""
    reader = watch(LiveSource.of(str(ramp)), {"audio": Clocked()}, Sliding(0.5, 0.25), max_latency_seconds=0.5)
    windows = given(reader, pause_seconds=0.8)
    check_counts(reader, windows)
    assert 0 < len(windows) < 15
    assert reader.counts.dropped_windows > 0
    assert reader.counts.skipped_seconds == 0  # nobody else was held up
    assert windows[-1].end_seconds == pytest.approx(4.0, abs=0.05)


def test_an_extractor_that_listens_too_slowly_skips_and_goes_on(ramp: Path) -> None:
    """It takes 3 s for a second of sound. What it is given after a gap is right: the level of its own time."""
    reader = watch(LiveSource.of(str(ramp)), {"audio": Clocked(3.0)}, Sliding(0.4, 0.2), max_latency_seconds=0.5)
    windows = given(reader)
    check_counts(reader, windows)
    assert reader.counts.skipped_seconds > 0
    assert reader.counts.dropped_windows > 0
    for window in windows:
        audio = window.extraction.sequences["audio"]
        # The level at t seconds is 0.2 t; the mean over a step is that of its middle.
        np.testing.assert_allclose(audio.values[:, 0], 0.2 * audio.times.mean(axis=1), atol=1e-3)


def test_an_extractor_that_looks_too_slowly_misses_pictures_but_no_sound(
    talk: Path, number_of: Callable[[np.ndarray], int]
) -> None:
    """A look takes 0.25 s, and there are ten pictures a second; sound costs nothing."""
    chosen = {"audio": Clocked(), "vision": Watching(number_of, 0.25)}
    reader = watch(LiveSource.of(str(talk)), chosen, Sliding(1.0, 0.5), max_latency_seconds=1.0)
    windows = given(reader)
    check_counts(reader, windows)
    assert reader.counts.dropped_frames > 0
    for window in windows:
        assert len(window.extraction.sequences["audio"]) >= 9
        numbers = window.extraction.sequences["vision"].values[:, 0]
        shown = window.extraction.sequences["vision"].times[:, 0] * 10
        assert (np.diff(numbers) >= 0).all()
        assert (numbers <= shown + 1e-6).all()  # an older picture may stand for one that was dropped, never a later


def test_late_windows_are_dropped_only_for_newer_ones(ramp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = watch(LiveSource.of(str(ramp)), {"audio": Clocked()}, Sliding(1.0, 1.0), max_latency_seconds=2.0)
    late = {0: 9.0, 1: 5.0, 2: 1.0, 3: 0.5}
    monkeypatch.setattr(reader, "latency_seconds", lambda window: late[window.number])
    for number in range(4):
        reader.hand_over(Window(number, float(number), number + 1.0, Extraction({}, {}, 1.0)))
    first, second = reader._take(), reader._take()
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (2, 3)
    reader.hand_over(Window(9, 9.0, 10.0, Extraction({}, {}, 1.0)))
    late[9] = 100.0
    third = reader._take()
    assert third is not None
    assert third.number == 9  # late, but nothing is newer
    assert reader.counts.dropped_windows == 2 + 5
    reader.close()


def test_few_windows_wait_for_a_caller_who_does_not_come(ramp: Path) -> None:
    reader = watch(LiveSource.of(str(ramp)), {"audio": Clocked()}, Sliding(1.0, 1.0), max_latency_seconds=1e9)
    for number in range(1000):
        reader.hand_over(Window(number, float(number), number + 1.0, Extraction({}, {}, 1.0)))
    assert len(reader._ready) == 8
    assert reader._ready[-1].number == 999
    reader.close()


def test_leaving_early_ends_the_threads(ramp: Path) -> None:
    reader = watch(LiveSource.of(str(ramp)), {"audio": Clocked()}, Sliding(0.2, 0.1))
    for _ in reader:
        break
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"extractors-live", "extractors-live-windows"}
    with pytest.raises(RuntimeError, match="read once"):
        next(iter(reader))


def test_an_error_of_an_extractor_reaches_the_caller(ramp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ClockedStream, samples: NDArray[np.float32]) -> None:
        raise ArithmeticError("it broke")

    monkeypatch.setattr(ClockedStream, "push", broken)
    with pytest.raises(ArithmeticError, match="it broke"):
        given(watch(LiveSource.of(str(ramp)), {"audio": Clocked()}, Sliding(0.2, 0.1)))


def test_packets_that_cannot_be_decoded_are_counted(media: Media, make_tone: Callable[..., np.ndarray]) -> None:
    """AAC in a WAV file, of which FFmpeg can decode the first packet alone."""
    broken = media("tone.wav", samples=make_tone(1.0))
    reader = watch(LiveSource.of(str(broken)), {"audio": Clocked()}, Sliding(0.2, 0.2))
    assert given(reader) == []
    assert reader.counts.decode_errors > 0


def test_words_alone_cannot_be_watched(ramp: Path) -> None:
    with pytest.raises(MediaError, match="only words are to be read"):
        watch(LiveSource.of(str(ramp)), {"text": extractors.build("text.lexical")}, Sliding(1.0, 1.0))


def test_warming_up_runs_every_extractor_once(number_of: Callable[[np.ndarray], int]) -> None:
    found = warm_up({"audio": Clocked(), "vision": Watching(number_of, 0.0), "text": extractors.build("text.lexical")})
    assert {key: len(one) for key, one in found.sequences.items()} == {"audio": 10, "vision": 1, "text": 0}
    assert found.missing == {"text": "warming up"}


def test_an_extractor_of_vision_that_listens_hears_live_media_too(rising: Path) -> None:
    recorded = extractors.extract(rising, {"vision": Listener()}).sequences["vision"]
    for rolls in (True, False):
        live = {"vision": Listener(rolls=rolls)}
        reader = watch(LiveSource.of(str(rising)), live, Sliding(1.0, 1.0), max_latency_seconds=60, seconds=3.0)
        windows = given(reader)
        assert len(windows) == 3
        for window in windows[:2]:
            found = window.extraction.sequences["vision"]
            expected = recorded.between(window.start_seconds, window.end_seconds)
            assert np.array_equal(found.times, expected.times)
            assert found.values == pytest.approx(expected.values, abs=1e-4)
        assert reader.notes == ("asked about 0 to inf",) if rolls else len(reader.notes) == 3
