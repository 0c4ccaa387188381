"""Times of words, from segments or from the clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.text.timed_text import TimedText
from extractors.text.words import word_spans
from extractors.transcript import Segment, TimedWord, Transcript


def times(transcript: Transcript, start: float = 0.0, end: float | None = None) -> list[list[float]]:
    timed = TimedText(transcript, start, end)
    return timed.times(np.array(word_spans(timed.text), np.int64).reshape(-1, 2)).tolist()


def test_words_share_their_segment_by_characters() -> None:
    transcript = Transcript((Segment("ab cdef", 1.0, 8.0), Segment("gh", 10.0, 11.0)))
    assert TimedText(transcript, 0.0, None).text == "ab cdef gh"
    assert times(transcript) == [[1.0, 3.0], [4.0, 8.0], [10.0, 11.0]]


def test_known_words_keep_their_times_and_share_them_within() -> None:
    words = (TimedWord(1, 3, 1.0, 1.5), TimedWord(4, 8, 3.0, 5.0), TimedWord(8, 9, 5.0, 6.0))
    transcript = Transcript((Segment("x", 0.0, 0.5), Segment(" ab cdef!", 1.0, 8.0, words=words)))
    timed = TimedText(transcript, 0.0, None)
    assert timed.text == "x ab cdef!"
    spans = np.array([[0, 1], [2, 4], [5, 9], [5, 10], [6, 8], [9, 10]])
    assert timed.times(spans).tolist() == [[0, 0.5], [1, 1.5], [3, 5], [3, 6], [3.5, 4.5], [5, 6]]


def test_untimed_segments_share_the_clip() -> None:
    assert times(Transcript((Segment("ab"), Segment("cde"))), 10.0, 16.0) == [[10.0, 12.0], [13.0, 16.0]]


def test_an_unknown_end_gives_each_word_a_second() -> None:
    assert times(Transcript((Segment("one two"), Segment("three")))) == [[0, 1], [1, 2], [2, 3]]
    assert times(Transcript.of("one two"), 5.0) == [[5, 6], [6, 7]]


def test_the_sequence_is_sorted_and_cut_to_the_clip() -> None:
    transcript = Transcript((Segment("c", 4.0, 5.0), Segment("a b", 0.0, 3.0)))
    timed = TimedText(transcript, 1.0, 4.8)
    spans = np.array(word_spans(timed.text), np.int64)
    sequence = timed.sequence(np.array([[3.0], [1.0], [2.0]], np.float32), spans, ("x",))
    assert sequence.values[:, 0].tolist() == [2.0, 3.0]
    assert sequence.times.tolist() == [[2.0, 3.0], [4.0, 5.0]]


@given(
    st.lists(st.text("ab ,", min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=6),
    st.floats(0, 100),
    st.floats(0.1, 50),
)
def test_times_lie_in_the_clip_in_order(texts: list[str], start: float, seconds: float) -> None:
    found = np.array(times(Transcript(tuple(map(Segment, texts))), start, start + seconds)).reshape(-1, 2)
    assert (found[:, 0] < found[:, 1]).all()
    assert (np.diff(found.ravel()) >= -1e-9).all()
    assert found.min() >= start - 1e-9
    assert found.max() <= start + seconds + 1e-9
    assert found[-1, 1] == pytest.approx(start + seconds)
