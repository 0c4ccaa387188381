"""Colours of classes and of negative and positive, which people with any kind of colour vision tell apart.

The eight hues are Okabe and Ito's (Color Universal Design, 2008), with a grey for the black, each in one shade for a
light ground and one for a dark.
"""

from __future__ import annotations

from collections.abc import Sequence

LIGHT = ("#dcca18", "#0072b2", "#d55e00", "#a8508a", "#009e73", "#e69f00", "#4b515a", "#3a9fd8")
DARK = ("#f0e442", "#4aa3df", "#f2733a", "#d68fb8", "#2fc79b", "#ffb733", "#e2e6eb", "#8fd0f5")
"""The same hues in the same order: yellow, blue, vermillion, purple, green, orange, grey, sky."""

NEGATIVE, POSITIVE = 2, 1
"""Places of the colours of scores below and above zero."""

_USUAL = (
    ("joy", "happy", "happiness", "joyful"),
    ("sadness", "sad"),
    ("anger", "angry", "mad"),
    ("fear", "fearful", "scared"),
    ("disgust", "disgusted"),
    ("surprise", "surprised"),
    ("neutral", "other", "calm"),
    ("excited", "excitement", "powerful"),
)


def class_colours(classes: Sequence[str]) -> list[int]:
    """For each class the place of its colour in `LIGHT` and `DARK`.

    Usual names of emotions have theirs in every report; others take those that are free, in order. With more than
    eight classes colours come again: a class is never known by its colour alone.

    Example:
        >>> class_colours(["anger", "wistful", "joy"])
        [2, 1, 0]
    """
    usual = {name: place for place, names in enumerate(_USUAL) for name in names}
    fixed: dict[str, int] = {}
    for name in classes:
        place = usual.get(name.lower())
        if place is not None and place not in fixed.values():
            fixed[name] = place
    free = [place for place in range(len(LIGHT)) if place not in fixed.values()] or list(range(len(LIGHT)))
    others = [name for name in classes if name not in fixed]
    return [fixed[name] if name in fixed else free[others.index(name) % len(free)] for name in classes]
