from __future__ import annotations

from itertools import islice

import pytest

from extractors import Segment, Transcript
from mmsa.errors import UsageError
from mmsa.scoring.timeline import PAUSE_SECONDS, Timeline, Turn, find_turns, sliding


def _said(*segments: tuple[float, float, str | None]) -> Transcript:
    return Transcript(tuple(Segment("yes", start, end, who) for start, end, who in segments))


def test_a_hop_is_half_a_window_by_default() -> None:
    assert list(islice(sliding(Timeline(10.0)), 3)) == [(0.0, 10.0), (5.0, 15.0), (10.0, 20.0)]
    assert list(islice(sliding(Timeline(10.0, 10.0)), 2)) == [(0.0, 10.0), (10.0, 20.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_seconds": 0.0}, "window_seconds must be"),
        ({"window_seconds": float("nan")}, "window_seconds must be"),
        ({"window_seconds": 5.0, "hop_seconds": -1.0}, "hop_seconds must be"),
        ({"hop_seconds": 5.0}, "give window_seconds, too"),
        ({"smooth_seconds": 1.0}, "smooths a timeline"),
        ({"window_seconds": 5.0, "segments": "subtitles"}, "two ways"),
        ({"segments": "speaker"}, "Did you mean 'speakers'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Timeline(**options)  # type: ignore[arg-type]


def test_without_options_a_file_is_one_clip() -> None:
    assert Timeline().whole
    assert not Timeline(segments="speakers").whole


def test_subtitles_are_taken_as_they_are_and_sorted() -> None:
    said = _said((3, 4, None), (1, 2, "a"), (5, 5, None))
    assert find_turns(said, "subtitles") == [Turn(1, 2, "a"), Turn(3, 4)]


def test_turns_join_what_one_speaker_says_without_a_pause() -> None:
    said = _said((0, 1, "a"), (1, 2, None), (2.5, 3, "a"), (3, 4, "b"), (4, 5, "a"), (5 + PAUSE_SECONDS + 0.1, 9, "a"))
    assert find_turns(said, "speakers") == [
        Turn(0, 3, "a"),
        Turn(3, 4, "b"),
        Turn(4, 5, "a"),
        Turn(5 + PAUSE_SECONDS + 0.1, 9, "a"),
    ]


def test_nobody_is_made_up_after_a_pause() -> None:
    said = _said((0, 1, "a"), (1 + PAUSE_SECONDS + 0.1, 5, None))
    assert [turn.speaker for turn in find_turns(said, "speakers")] == ["a", None]


@pytest.mark.parametrize(
    ("transcript", "segments", "message"),
    [
        (Transcript(), "subtitles", "there is no transcript"),
        (Transcript.of("hello"), "subtitles", "has no times"),
        (_said((0, 1, None)), "speakers", "names no speaker"),
    ],
    ids=["none", "no times", "no names"],
)
def test_what_a_transcript_does_not_say_is_an_error(transcript: Transcript, segments: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_turns(transcript, segments)


def test_phrases_of_speech_are_taken_as_they_were_found() -> None:
    said = _said((3, 4, None), (1, 2, None))
    assert find_turns(said, "speech") == [Turn(1, 2), Turn(3, 4)]
    with pytest.raises(UsageError, match=r"speech are asked for, but its transcript has no times: .*--align"):
        find_turns(Transcript.of("so"), "speech")
