"""Transcripts and the files they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from extractors.transcript import Segment, TimedWord, Transcript, read_transcript, write_vtt

SRT = """1
00:00:01,500 --> 00:00:02,250
<i>Well</i>, {\\an8}I <b>love</b>
this &amp; that

2
00:00:05,000 --> 00:00:06,000
5 < 6 > 4
"""
VTT = """WEBVTT

NOTE a remark

intro
00:01.500 --> 00:02.250 align:start position:10%
<v Anna><c.yellow>Hello</c> <00:01.800>there</v>

01:00:00.000 --> 01:00:01.000
later
"""


def test_srt(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("\ufeff" + SRT, encoding="utf-8")
    assert read_transcript(tmp_path / "a.srt").segments == (
        Segment("Well, I love this & that", 1.5, 2.25),
        Segment("5 < 6 > 4", 5.0, 6.0),
    )


def test_vtt(tmp_path: Path) -> None:
    (tmp_path / "a.VTT").write_text(VTT, encoding="utf-8")
    assert read_transcript(tmp_path / "a.VTT").segments == (
        Segment("Hello there", 1.5, 2.25, "Anna", (TimedWord(0, 5, 1.5, 1.8), TimedWord(6, 11, 1.8, 2.25))),
        Segment("later", 3600.0, 3601.0),
    )


def test_the_first_voice_of_a_cue_speaks(tmp_path: Path) -> None:
    cue = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v.loud Bob &amp; Co>Yes. <v Anna>No: never.\n"
    (tmp_path / "a.vtt").write_text(cue, encoding="utf-8")
    assert read_transcript(tmp_path / "a.vtt").segments == (Segment("Yes. No: never.", 1.0, 2.0, "Bob & Co"),)


@pytest.mark.parametrize(
    ("words", "speaker"),
    [("Anna B.: yes", "Anna B."), ("ÉLISE : oui", "ÉLISE"), ("at 10:30", None), ("10: yes", None), ("Anna:", None)],
)
def test_an_srt_line_may_begin_with_who_speaks(tmp_path: Path, words: str, speaker: str | None) -> None:
    (tmp_path / "a.srt").write_text(f"1\n00:00:01,000 --> 00:00:02,000\n{words}\n", encoding="utf-8")
    assert read_transcript(tmp_path / "a.srt").segments == (Segment(words, 1.0, 2.0, speaker),)


def test_txt_has_no_times(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("  Just words.\nMore.\n", encoding="utf-8")
    assert read_transcript(str(tmp_path / "a.txt")).segments == (Segment("Just words.\nMore."),)
    (tmp_path / "b.txt").write_text(" \n", encoding="utf-8")
    assert not read_transcript(tmp_path / "b.txt")


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.srt, \.vtt, \.ass, \.ssa or \.txt file in UTF-8, not \.docx; convert it"):
        read_transcript(tmp_path / "a.docx")
    with pytest.raises(ValueError, match="no such file"):
        read_transcript(tmp_path / "a.srt")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(ValueError, match="byte 3 is not UTF-8: save the file as UTF-8"):
        read_transcript(tmp_path / "latin.txt")


@pytest.mark.parametrize("times", [(1.0, None), (None, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, float("inf"))])
def test_segments_need_sensible_times(times: tuple[float | None, float | None]) -> None:
    with pytest.raises(ValueError, match="segment 'hi'"):
        Segment("hi", *times)


def test_of_and_truth() -> None:
    assert not Transcript.of(None)
    assert not Transcript.of("  ")
    assert Transcript.of("hi").text == "hi"
    assert Transcript.of(Transcript.of("hi")) == Transcript.of("hi")
    assert Transcript((Segment("a", 0, 1), Segment(" "), Segment("b"))).text == "a b"


def test_placed_keeps_what_overlaps() -> None:
    early, across, late, timeless = Segment("e", 0, 1), Segment("x", 0.5, 2.5), Segment("l", 3, 4), Segment("t")
    transcript = Transcript((early, across, late, timeless))
    assert list(transcript.placed(1.0, 3.0)) == [across, timeless]
    assert list(transcript.placed(2.5, None)) == [late, timeless]


ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.50,0:00:02.25,Default,Anna,0,0,0,,{\\i1}Hello{\\i0},\\Nthere
Comment: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,not said
Dialogue: 0,1:00:00.00,1:00:01.00,Default,,0,0,0,,later
"""


@pytest.mark.parametrize("suffix", [".ass", ".ssa"])
def test_ass(tmp_path: Path, suffix: str) -> None:
    """Names are a column of their own; comments are not shown and so not said."""
    (tmp_path / f"a{suffix}").write_text(ASS, encoding="utf-8")
    assert read_transcript(tmp_path / f"a{suffix}").segments == (
        Segment("Hello, there", 1.5, 2.25, "Anna"),
        Segment("later", 3600.0, 3601.0),
    )


def test_words_times_go_through_a_file_and_back(tmp_path: Path) -> None:
    """With pauses before, between and behind them, and without."""
    times = [(0, 2, 0.75, 1.0), (3, 4, 1.0, 1.25), (5, 6, 1.5, 1.75), (7, 9, 1.75, 2.0), (10, 13, 2.0, 2.5)]
    chinese = (TimedWord(0, 1, 4000.0, 4000.25), TimedWord(1, 2, 4000.25, 4001.0))
    told = Transcript(
        (
            Segment("so 1 < 2, &c.", 0.5, 3.0, "A & B", tuple(TimedWord(*one) for one in times)),
            Segment("很好", 4000.0, 4001.0, None, chinese),
            Segment("no words' times", 5000.0, 5001.0),
            Segment("one", 6000.0, 6001.0, words=(TimedWord(0, 3, 6000.0, 6001.0),)),
        )
    )
    write_vtt(told, tmp_path / "a.vtt")
    assert read_transcript(tmp_path / "a.vtt") == told
    with pytest.raises(ValueError, match="segment 'hi' has no times: WebVTT needs some"):
        write_vtt(Transcript.of("hi"), tmp_path / "b.vtt")


def test_instants_out_of_order_are_no_times(tmp_path: Path) -> None:
    cue = "WEBVTT\n\n00:01.000 --> 00:02.000\none <00:09.000>two <00:01.500>three\n"
    (tmp_path / "a.vtt").write_text(cue, encoding="utf-8")
    assert read_transcript(tmp_path / "a.vtt").segments == (Segment("one two three", 1.0, 2.0),)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([(0, 2, 0.0, 1.0)], "its words end at character 2 of 5"),
        ([(0, 2, 0.0, 1.0), (1, 5, 1.0, 2.0)], "its words must cover the text in order"),
        ([(3, 5, 0.0, 1.0)], "its words must cover the text in order"),
        ([(0, 2, 1.0, 2.0), (3, 5, 0.5, 2.0)], "its words must follow each other in time"),
    ],
)
def test_words_must_fit_their_text(words: list[tuple[int, int, float, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segment("ab cd", 0.0, 2.0, words=tuple(TimedWord(*word) for word in words))
    with pytest.raises(ValueError, match="its words have times, so it needs some, too"):
        Segment("ab", words=(TimedWord(0, 2, 0.0, 1.0),))


def test_what_is_said_in_a_span_is_its_words() -> None:
    timed = Segment(
        "one two three",
        0.0,
        3.0,
        words=(TimedWord(0, 3, 0.0, 1.0), TimedWord(4, 7, 1.0, 2.0), TimedWord(8, 13, 2.0, 3.0)),
    )
    transcript = Transcript((timed, Segment("all of it", 2.0, 6.0)))
    assert transcript.said(0.5, 2.5) == "two three all of it"
    assert transcript.said(0.0, 1.0) == "one"
    assert transcript.said(5.0, None) == "all of it"
