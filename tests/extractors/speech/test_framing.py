"""Windows over a stream: where block boundaries fall leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.base import AudioExtractor, AudioStream
from extractors.spec import ExtractorSpec
from extractors.speech.framing import Rows, WindowedStream, in_pieces


class Peaks(AudioExtractor):
    """The largest sample of each window of 5 every 2, at 10 samples per second."""

    sample_rate_hz = 10
    hop_samples = 2
    names = ("peak",)
    spec = ExtractorSpec("tests:Peaks", "numpy", "1", {})

    def __init__(self) -> None:
        self.longest = 0

    def stream(self, first_sample: int = 0) -> AudioStream:
        return WindowedStream(self, first_sample, window=5, floor_db=-20.0, compute=self._compute)

    def _compute(self, signal: np.ndarray) -> np.ndarray:
        self.longest = max(self.longest, len(signal))
        return np.lib.stride_tricks.sliding_window_view(signal, 5)[::2].max(axis=1, keepdims=True).astype(np.float64)


@given(st.integers(0, 1000), st.lists(st.integers(0, 1000), max_size=20), st.integers(0, 2**32 - 1))
def test_any_blocking_equals_the_definition(length: int, cuts: list[int], seed: int) -> None:
    signal = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    signal[length // 3 : length // 2] = 0.0
    extractor = Peaks()
    stream = extractor.stream(4)
    for block in np.split(signal, sorted(min(c, length) for c in cuts)):
        stream.push(block)
    found = stream.finish()
    expected = [
        ((4 + i) / 10, (4 + i + 5) / 10, signal[i : i + 5].max())
        for i in range(0, length - 4, 2)
        if np.sqrt(np.mean(signal[i : i + 5].astype(np.float64) ** 2)) >= 0.1
    ]
    assert found.times.tolist() == [[start, end] for start, end, _ in expected]
    assert found.values[:, 0].tolist() == [peak for _, _, peak in expected]
    assert extractor.longest <= 2 * 200 + 5


def test_reasons() -> None:
    short = Peaks().stream()
    short.push(np.ones(4, np.float32))
    assert len(short.finish()) == 0
    assert short.missing_reason() == "only 0.400 s of sound, less than one analysis window"
    quiet = Peaks().stream()
    quiet.push(np.full(50, 0.05, np.float32))
    assert len(quiet.finish()) == 0
    assert quiet.missing_reason() == "silent"


def test_streams_start_on_the_grid() -> None:
    with pytest.raises(ValueError, match="first_sample must be a multiple of 2, not 3"):
        Peaks().stream(3)


def test_rows_are_joined_as_far_as_they_are_asked_for_and_let_go() -> None:
    whole = np.arange(40.0).reshape(20, 2)
    blocks = [whole[:7].copy(), whole[7:8].copy(), whole[8:].copy()]
    rows = Rows(blocks)
    assert rows.column(1).tolist() == whole[:, 1].tolist()
    assert rows.between(5, 10).tolist() == whole[5:10].tolist()
    assert rows.between(18, 99).tolist() == whole[18:].tolist()
    rows.let_go(8)
    assert len(blocks) == 1
    assert rows.between(9, 12).tolist() == whole[9:12].tolist()


@given(st.integers(1, 60), st.integers(0, 5), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_pieces_make_the_whole(count: int, reach: int, size: int, seed: int) -> None:
    """Sums of each window with those around it, which each piece must see beyond its edges."""
    random = np.random.default_rng(seed)
    values, loud = random.integers(0, 100, count).astype(np.float64), random.random(count) < 0.6
    rows = Rows([block[:, None] for block in np.split(values, sorted(random.integers(0, count, 3))) if len(block)])

    def sums(first: int, after: int) -> np.ndarray:
        around = rows.between(max(0, first - reach), after + reach)[:, 0]
        offset = first - max(0, first - reach)
        found = [around[max(0, k + offset - reach) : k + offset + reach + 1].sum() for k in range(after - first)]
        return np.array(found)[:, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("extractors.speech.framing._PIECE_WINDOWS", size)
        found = in_pieces(rows, loud, sums, reach=reach)
    expected = [values[max(0, k - reach) : k + reach + 1].sum() for k in np.flatnonzero(loud)]
    assert found[:, 0].tolist() == expected
