from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import extractors
from extractors.base import AudioExtractor, AudioStream, VisionExtractor, VisionStream
from extractors.replayed import ReplayedAudio, ReplayedVision, rolling
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from tests.extractors.conftest import Listener


class Means(AudioExtractor):
    """The mean of every ten samples at 100 Hz: step `k` has the number of its middle where the sound counts up."""

    def __init__(self) -> None:
        self.sample_rate_hz, self.hop_samples, self.context_seconds = 100, 10, 0.1
        self.names = ("mean",)
        self.spec = ExtractorSpec("tests:Means", "numpy", "1", {})
        self.streams: list[MeansStream] = []

    def stream(self, first_sample: int = 0) -> AudioStream:
        assert first_sample % 10 == 0
        self.streams.append(MeansStream(first_sample))
        return self.streams[-1]


class MeansStream(AudioStream):
    def __init__(self, first: int) -> None:
        self.first, self.blocks = first, [np.zeros(0, np.float32)]

    def push(self, samples: NDArray[np.float32]) -> None:
        self.blocks.append(samples)

    def finish(self) -> FeatureSequence:
        samples = np.concatenate(self.blocks)
        rows = samples[: len(samples) // 10 * 10].reshape(-1, 10).mean(axis=1, keepdims=True)
        starts = (self.first + 10 * np.arange(len(rows))) / 100
        return FeatureSequence(rows.astype(np.float32), np.stack([starts, starts + 0.1], axis=1), ("mean",))


class Sums(VisionExtractor):
    """The value of each frame plus that of all frames before it in its stream: it shows where a stream began."""

    def __init__(self) -> None:
        self.frames_per_second, self.max_side_pixels = 5.0, 64
        self.names = ("sum",)
        self.spec = ExtractorSpec("tests:Sums", "numpy", "1", {})

    def stream(self) -> VisionStream:
        return SumsStream()


class SumsStream(VisionStream):
    def __init__(self) -> None:
        self.rows: list[tuple[int, float]] = []

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        before = self.rows[-1][1] if self.rows else 0.0
        self.rows += [(index, before + float(image.max())) for index in indices]

    def finish(self) -> FeatureSequence:
        starts = np.array([index / 5 for index, _ in self.rows])
        values = np.array([[value] for _, value in self.rows], np.float32).reshape(-1, 1)
        return FeatureSequence(values, np.stack([starts, starts + 0.2], axis=1), ("sum",))


def test_only_what_cannot_roll_is_replayed() -> None:
    for name in ("speech.librosa", "facial.facemesh", "text.lexical"):
        extractor = extractors.build(name)
        assert rolling(extractor) is extractor
    assert isinstance(rolling(Means()), ReplayedAudio)
    assert isinstance(rolling(Sums()), ReplayedVision)


@pytest.mark.parametrize("block", [7, 10, 64, 1000])
def test_a_window_of_sound_is_what_the_segment_is(block: int) -> None:
    samples = np.arange(1000, dtype=np.float32)
    stream = rolling(Means()).stream()  # type: ignore[attr-defined]
    for start in range(0, 1000, block):
        stream.push(samples[start : start + block])
    for start, end in ((0.0, 2.0), (1.0, 3.0), (3.45, 5.05)):
        found, reason = stream.window(start, end)
        # Step k covers samples 10 k to 10 k + 9, whose mean is 10 k + 4.5; its middle is at (k + 0.5) / 10 s.
        expected = [10 * k + 4.5 for k in range(100) if start <= (k + 0.5) / 10 < end]
        assert found.values[:, 0].tolist() == expected
        assert reason == ""
        stream.forget(start - 0.1)


def test_sound_that_no_window_needs_is_forgotten() -> None:
    extractor = Means()
    stream = ReplayedAudio(extractor).stream()
    for start in range(0, 100_000, 50):
        stream.push(np.arange(start, start + 50, dtype=np.float32))
        if start % 100 == 50 and start > 200:
            end = start / 100
            found, _ = stream.window(end - 1.0, end)
            assert len(found) == 10
            stream.forget(end - 1.0)
    # What is played is a window and its context, and up to a block before: however long the stream has been.
    assert max(sum(map(len, one.blocks)) for one in extractor.streams) <= 100 + 2 * 10 + 50


def test_a_window_of_silence_has_the_streams_reason() -> None:
    stream = ReplayedAudio(Means()).stream()
    stream.push(np.zeros(5, np.float32))
    found, reason = stream.window(0.0, 1.0)
    assert (len(found), reason) == (0, "silent")


def test_a_window_of_frames_begins_a_stream_of_its_own() -> None:
    stream = ReplayedVision(Sums()).stream()
    for k in range(20):
        stream.push(np.full((2, 2, 3), k, np.uint8), [k])
    found, _ = stream.window(2.0, 3.0)  # frames 10 to 14
    assert found.values[:, 0].tolist() == [10, 21, 33, 46, 60]
    stream.forget(2.0)
    again, _ = stream.window(2.0, 3.0)
    np.testing.assert_array_equal(again.values, found.values)
    assert stream.window(0.0, 2.0)[1] == "nothing found in the sampled frames"
    assert stream.finish().values[0, 0] == 10


def test_a_frame_shown_for_long_belongs_to_each_window_with_its_instants() -> None:
    stream = ReplayedVision(Sums()).stream()
    stream.push(np.full((2, 2, 3), 3, np.uint8), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert len(stream.window(0.0, 1.0)[0]) == 5
    assert len(stream.window(1.0, 2.0)[0]) == 5


def test_it_stands_for_the_extractor_it_wraps(media: Callable[..., Path], make_tone: Callable[..., np.ndarray]) -> None:
    path = media("tone.wav", samples=make_tone(3.0))
    plain = Means()
    found = extractors.extract(path, {"audio": rolling(plain)}).sequences["audio"]
    expected = extractors.extract(path, {"audio": plain}).sequences["audio"]
    np.testing.assert_array_equal(found.values, expected.values)
    assert rolling(plain).spec == plain.spec


def test_a_window_is_played_with_its_sound_and_what_bears_on_it() -> None:
    own = Listener()
    stream = ReplayedVision(own).stream()
    second = np.sin(2 * np.pi * 200 * np.arange(8000) / 8000).astype(np.float32)
    for k in range(10):
        stream.listen(second * (k + 1) / 20, 8000 * k)
        for index in range(5 * k, 5 * k + 5):
            stream.push(np.zeros((2, 2, 3), np.uint8), [index])
    found, reason = stream.window(3.0, 5.0)
    assert reason == ""
    assert found.times[:, 0].tolist() == pytest.approx([k / 5 for k in range(15, 25)])
    assert found.values[[2, 7], 0] == pytest.approx([4 / 20 / np.sqrt(2), 5 / 20 / np.sqrt(2)], rel=1e-3)
    assert own.streams[-1].indices == list(range(10, 27))  # middles from 2 s to 5.5 s
    assert own.streams[-1].ended
    stream.forget(4.0)
    stream.window(5.0, 6.0)
    assert own.streams[-1].first == 32_000
    assert stream.notes() == ("asked about 3 to 5", "asked about 5 to 6")
