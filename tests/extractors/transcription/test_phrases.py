"""Words joined to phrases."""

from __future__ import annotations

from extractors.transcript import Segment, TimedWord
from extractors.transcription.phrases import LONGEST_SECONDS, PAUSE_SECONDS, Word, phrases


def texts(*words: tuple[str, float, float]) -> list[str]:
    return [one.text for one in phrases(Word(*word) for word in words)]


def test_words_keep_their_times_and_places() -> None:
    (found,) = phrases([Word(" so", 1.0, 1.25), Word(" good", 1.5, 2.0), Word("!", 2.0, 2.0)])
    expected = (TimedWord(0, 2, 1.0, 1.25), TimedWord(3, 7, 1.5, 2.0), TimedWord(7, 8, 2.0, 2.0))
    assert found == Segment("so good!", 1.0, 2.0, words=expected)


def test_a_sentence_a_pause_and_length_end_a_phrase() -> None:
    assert texts((" Yes.", 0, 1), (" No", 1, 2), (" way?”", 2, 3), (" So", 3, 4)) == ["Yes.", "No way?”", "So"]
    gap = PAUSE_SECONDS
    assert texts((" a", 0, 1), (" b", 1 + gap, 3), (" c", 3.1 + gap, 5)) == ["a b", "c"]
    long = LONGEST_SECONDS
    assert texts((" a", 0, long - 1), (" b", long - 1, long), (" c", long, long + 0.5)) == ["a b", "c"]


def test_languages_without_spaces_stay_without() -> None:
    assert texts(("很", 0, 1), ("好", 1, 2), ("。", 2, 2), ("是", 2, 3)) == ["很好。", "是"]


def test_times_that_run_backwards_are_put_right_and_empty_words_go() -> None:
    (found,) = phrases([Word(" a", 1.0, 2.0), Word("  ", 1.0, 1.0), Word(" b", 0.5, 0.75)])
    assert found == Segment("a b", 1.0, 2.0, words=(TimedWord(0, 1, 1.0, 2.0), TimedWord(2, 3, 1.0, 1.0)))
    assert list(phrases([])) == []
