from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from mmsa.scoring.overlay import fonts
from mmsa.scoring.overlay.fonts import default_font, find_font, load_font, wrap


def test_letters_of_europe_need_no_other_font() -> None:
    assert find_font("Ça va? Привет, Ελλάδα — ok!") == (default_font(), "")


def test_a_font_of_the_machine_is_taken_where_it_has_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.font_manager

    other = Path("/nowhere/cjk.ttf")
    monkeypatch.setattr(matplotlib.font_manager, "findSystemFonts", lambda: [str(other)])
    known = fonts._letters
    monkeypatch.setattr(fonts, "_letters", lambda path: frozenset(map(ord, "今天")) if path == other else known(path))
    assert find_font("今天") == (other, "")
    path, note = find_font("今天好")
    assert path == default_font()
    assert "no font on this machine has the letters '今天好'" in note


def test_lines_fit_and_nothing_is_lost_that_has_room() -> None:
    font = load_font(default_font(), 16)
    text = "the quick brown fox jumps over the lazy dog"
    lines = wrap(text, font, 120, 10)
    assert " ".join(lines) == text
    assert all(font.getlength(line) <= 120 for line in lines)
    assert all(font.getlength(f"{one} {other.split()[0]}") > 120 for one, other in pairwise(lines))


def test_long_words_break_and_long_texts_end_in_dots() -> None:
    font = load_font(default_font(), 16)
    lines = wrap("W" * 60, font, 100, 50)
    assert "".join(lines) == "W" * 60
    assert all(font.getlength(line) <= 100 for line in lines)
    short = wrap("word " * 100, font, 100, 2)
    assert len(short) == 2
    assert short[-1].endswith("…")
    assert font.getlength(short[-1]) <= 100
    assert wrap("  ", font, 100, 2) == []
