"""Words and where they stand."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from extractors.text.words import word_spans


def words(text: str) -> list[str]:
    return [text[first:after] for first, after in word_spans(text)]


def test_scripts_with_and_without_spaces() -> None:
    assert words("It's  so-so,\nOK?! :)") == ["It's", "so-so,", "OK?!", ":)"]
    assert words("我很高兴！ really好") == ["我", "很", "高", "兴！", "really", "好"]
    assert words("すごい。") == ["す", "ご", "い。"]


@given(st.text(max_size=60))
def test_words_cover_all_but_space_without_overlap(text: str) -> None:
    spans = word_spans(text)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert "".join(words(text)) == "".join(text.split())
