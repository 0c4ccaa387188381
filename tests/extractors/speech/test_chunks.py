"""The grid of chunks by hand, and the stream against computing everything at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.base import AudioExtractor
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from extractors.speech.chunks import ChunkedStream, Chunks, Frames, context_seconds

FRAMES = Frames(hop=10, width=15, needs=15)
CHUNKS = Chunks(length=200, context=30)  # 140 from one to the next


class Sums(AudioExtractor):
    """Per step the sum of its samples, how far from either edge of its chunk it stood, and the chunk's length."""

    names = ("sum", "left", "right", "length")
    sample_rate_hz = 100
    hop_samples = 10
    context_seconds = context_seconds(CHUNKS, 100)
    rolling = True

    def __init__(self, batch: int = 2, floor: float | None = None, frames: Frames = FRAMES) -> None:
        self.spec = ExtractorSpec("sums", "none", "1", {})
        self.batch, self.floor, self.frames, self.batches = batch, floor, frames, list[list[int]]()

    def encode(self, chunks: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.batches.append([len(chunk) for chunk in chunks])
        result = []
        for chunk in chunks:
            count = self.frames.count(len(chunk))
            rows = [[chunk[10 * k : 10 * k + 15].sum(), k, count - 1 - k, len(chunk)] for k in range(count)]
            result.append(np.array(rows, np.float32).reshape(-1, 4))
        return result

    def stream(self, first_sample: int = 0) -> ChunkedStream:
        return ChunkedStream(
            self, first_sample, frames=self.frames, chunks=CHUNKS, encode=self.encode, silence_db=self.floor,
            batch_size=self.batch,
        )  # fmt: skip


def sound(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(count).astype(np.float32)


def read(extractor: Sums, samples: np.ndarray, blocks: Sequence[int] = (), first: int = 0) -> FeatureSequence:
    stream = extractor.stream(first)
    for block in np.split(samples, sorted(blocks)):
        stream.push(block)
    return stream.finish()


def test_the_grid_by_hand() -> None:
    assert CHUNKS.advance == 140
    assert [CHUNKS.span(c) for c in range(3)] == [(0, 170), (110, 310), (250, 450)]
    assert [CHUNKS.last(end) for end in (1, 170, 171, 310, 311)] == [0, 0, 1, 1, 2]
    assert [CHUNKS.first(sample) for sample in (0, 10, 110, 120, 250)] == [0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="the overlap of chunks must be shorter than a chunk"):
        Chunks(100, 50)


def test_frames_by_hand() -> None:
    assert [FRAMES.count(n) for n in (0, 14, 15, 24, 25, 100)] == [0, 0, 1, 1, 2, 9]
    centred = Frames(hop=10, width=10, needs=1, offset=-5)
    assert [centred.count(n) for n in (0, 1, 10, 11)] == [0, 1, 1, 2]
    assert centred.times(np.array([0, 1]), 10).tolist() == [[0.0, 0.5], [0.5, 1.5]]


@pytest.mark.parametrize("length", [0, 14, 15, 100, 169, 170, 171, 200, 310, 311, 999, 1000])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_step_is_there_once_and_far_from_inner_edges(length: int, batch: int) -> None:
    samples = sound(length)
    found = read(Sums(batch), samples)
    count = FRAMES.count(length)
    assert len(found) == count
    expected = [samples[10 * k : 10 * k + 15].sum() for k in range(count)]
    assert np.allclose(found.values[:, 0], expected, atol=1e-4)
    assert np.allclose(found.times[:, 0], [0.1 * k for k in range(count)])
    assert np.allclose(found.times[:, 1], [0.1 * k + 0.15 for k in range(count)])
    for k, (_, left, right, _) in enumerate(found.values):
        # Half the overlap on either side of an inner edge, less the step itself; beginning and end are no inner edges.
        assert left >= 2 or left == k
        assert right >= 1 or right == count - 1 - k


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=8))
def test_any_blocking_gives_the_same(cuts: list[int]) -> None:
    whole, found = read(Sums(), sound(1000)), read(Sums(), sound(1000), cuts)
    assert np.array_equal(found.values, whole.values)
    assert np.array_equal(found.times, whole.times)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 985), st.integers(1, 985))
def test_a_segment_gets_what_the_whole_has_there(start: int, length: int) -> None:
    """Read as `extract` reads a segment: from `context_seconds` before it to as much after it."""
    samples, context = sound(1000), round(Sums.context_seconds * 100)
    end = min(1000, start + length)
    first = max(0, (start - context) // 10 * 10)
    part = read(Sums(), samples[first : end + context], first=first).between(start / 100, end / 100)
    whole = read(Sums(), samples).between(start / 100, end / 100)
    assert np.array_equal(part.values, whole.values)
    assert np.allclose(part.times, whole.times)


@pytest.mark.parametrize(("window", "hop"), [(100, 50), (333, 40), (20, 20)])
def test_windows_of_one_pass_equal_segments(window: int, hop: int) -> None:
    """Each window is asked for as soon as all of it and its context are there, as the reader of windows does."""
    samples, extractor = sound(1000), Sums(batch=3)
    whole, context = read(Sums(), samples), round(Sums.context_seconds * 100)
    stream = extractor.stream()
    at, held = 0, []
    for start in range(0, 1000, hop):
        needed = min(1000, start + window + context)
        while at < needed:
            stream.push(samples[at : at + 7][: needed - at])
            at = min(needed, at + 7)
        found, reason = stream.window(start / 100, (start + window) / 100)
        expected = whole.between(start / 100, (start + window) / 100)
        assert np.array_equal(found.values, expected.values)
        assert bool(reason) == (not len(expected))
        stream.forget((start + hop - context) / 100)
        held.append(len(stream._encoded))
    assert max(held) <= (window + 2 * context) // 140 + 3
    assert len(stream._samples) <= 3 * CHUNKS.length


def test_chunks_of_one_length_share_a_batch() -> None:
    """The first has no context before it and the last is cut: neither is padded to be encoded with the others."""
    extractor = Sums(batch=2)
    read(extractor, sound(900))
    assert sorted(extractor.batches) == sorted([[170], [200], [200, 200], [200, 200], [900 - 810]])
    assert max(len(batch) for batch in extractor.batches) == 2


def test_silence_gives_no_steps_and_is_not_encoded() -> None:
    samples = np.concatenate([sound(300), np.zeros(700, np.float32), sound(100)])
    extractor = Sums(floor=-60.0)
    found = read(extractor, samples)
    kept = [k for k in range(FRAMES.count(1100)) if np.abs(samples[10 * k : 10 * k + 15]).max() > 0]
    assert np.allclose(found.times[:, 0] * 10, kept)
    assert sum(len(batch) for batch in extractor.batches) < CHUNKS.last(1100) + 1
    quiet = extractor.stream()
    quiet.push(np.zeros(500, np.float32))
    assert len(quiet.finish()) == 0
    assert quiet.missing_reason() == "silent"


def test_too_little_sound_is_said() -> None:
    stream = Sums().stream()
    stream.push(sound(14))
    assert len(stream.finish()) == 0
    assert stream.missing_reason() == "only 0.140 s of sound, less than one step takes"


def test_a_wrong_number_of_steps_is_no_silent_shift() -> None:
    extractor = Sums()
    extractor.encode = lambda chunks: [np.zeros((3, 4), np.float32) for _ in chunks]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="3 steps of a chunk that has 16"):
        read(extractor, sound(170))


def test_streams_begin_on_the_grid() -> None:
    with pytest.raises(ValueError, match="first_sample must be a multiple of 10, not 5"):
        Sums().stream(5)
