"""What counts as a word."""

from __future__ import annotations

import re

# Scripts written without spaces (kana and Han): every character is a word of its own, with the signs after it.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}][^\w\s]*|[^\s{_UNSPACED}]+")


def word_spans(text: str) -> list[tuple[int, int]]:
    """First and after-last character of each word: what stands between spaces, or a kana or Han character.

    Example:
        >>> word_spans("so good!")
        [(0, 2), (3, 8)]
        >>> word_spans("很好。 ok")
        [(0, 1), (1, 3), (4, 6)]
    """
    return [match.span() for match in _WORD.finditer(text)]
