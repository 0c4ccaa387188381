"""English sentences of a wanted valence, from templates and a lexicon.

The valence of a sentence follows from how it is made, on seven levels: strong word with intensity word 3, strong word
2, mild word or a negated word of the other sign 1, no opinion 0; the same below zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = (-3, -2, -1, 0, 1, 2, 3)

_TOPICS = (
    "meeting", "film", "dinner", "trip", "concert", "parade", "game", "hotel", "lesson", "show", "book", "coffee",
    "phone call", "interview", "wedding", "garden", "haircut", "soup", "train ride", "play", "talk", "museum",
    "weekend", "flat", "song", "picnic", "letter", "class", "market", "boat tour",
)  # fmt: skip
_PEOPLE = (
    "my sister", "our neighbour", "the teacher", "my cousin", "the driver", "his brother", "the new guy", "a colleague",
    "their uncle", "the nurse", "my flatmate", "the waiter",
)  # fmt: skip
_TAILS = (
    "", "", "", "from start to end", "on Monday", "last week", "in the morning", "after lunch", "for all of us",
    "this time", "the other day", "at the station", "since we moved",
)  # fmt: skip
_OPENERS = ("", "", "", "now,", "look,", "you know,", "so,", "as I said,", "to me,")
_SURPRISED = ("oh,", "wow,", "wait,", "oh my,", "what,")

_STRONG = {
    "joy": ("wonderful", "fantastic", "brilliant", "amazing", "delightful", "perfect", "excellent", "beautiful"),
    "anger": ("outrageous", "infuriating", "horrible", "awful", "terrible", "hateful"),
    "fear": ("terrifying", "frightening", "horrifying", "scary", "threatening"),
    "sadness": ("heartbreaking", "miserable", "depressing", "tragic", "awful", "devastating"),
    "disgust": ("disgusting", "horrible", "terrible", "nasty", "awful", "sickening"),
}
_MILD = {
    "joy": ("nice", "good", "pleasant", "fun", "fine", "sweet", "friendly", "helpful"),
    "anger": ("annoying", "unfair", "rude", "bad", "frustrating"),
    "fear": ("worrying", "risky", "tense", "alarming"),
    "sadness": ("sad", "lonely", "gloomy", "disappointing", "poor"),
    "disgust": ("bad", "ugly", "boring", "dirty", "poor"),
}
_INTENSE = ("really", "absolutely", "so", "very", "extremely", "incredibly", "totally", "completely")
_STRONG_VERBS = {
    "joy": ("loved", "adored", "treasured"),
    "anger": ("hated", "despised"),
    "fear": ("dreaded", "feared"),
    "sadness": ("hated", "regretted"),
    "disgust": ("hated", "despised"),
}
_MILD_VERBS = {"joy": ("liked", "enjoyed", "welcomed")}

NEGATIVE_FLAVOURS = ("anger", "fear", "sadness", "disgust")
"""Which negative words a sentence takes; a positive one always takes those of joy."""

_OPINION_FRAMES = (
    "the {topic} was {word} {tail}",
    "I thought the {topic} was {word} {tail}",
    "the whole {topic} felt {word} {tail}",
    "{person} said the {topic} was {word}",
    "it was {word}, that {topic} {tail}",
    "the {topic} with {person} was {word}",
    "that {topic} looked {word} {tail}",
    "{person} made the {topic} {word}",
    "what happened at the {topic} was {word}",
)
_VERB_FRAMES = ("I {verb} the {topic} {tail}", "we {verb} that {topic} {tail}", "{person} {verb} the {topic} {tail}")
_PLAIN_FRAMES = (
    "the {topic} starts at {hour} {tail}",
    "{person} took the {topic} on at {hour}",
    "we go to the {topic} at {hour} {tail}",
    "I heard about the {topic} from {person}",
    "the {topic} is next to the {place}",
    "{person} came to the {topic} by bus",
    "they moved the {topic} to the {place} {tail}",
    "I told {person} about the {topic} {tail}",
    "{person} put the chairs near the {place}",
    "the {topic} takes about {hour} hours",
)
_HOURS = ("two", "three", "four", "six", "seven", "nine", "ten")
_PLACES = ("library", "river", "old bridge", "main street", "school", "bakery", "town hall", "office")


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _opinion_word(level: int, flavour: str, rng: np.random.Generator) -> str:
    if abs(level) == 1 and rng.random() < 0.35:
        other = _pick(rng, NEGATIVE_FLAVOURS) if level > 0 else "joy"
        return "not " + _pick(rng, _MILD[other])
    words = _MILD[flavour] if abs(level) == 1 else _STRONG[flavour]
    word = _pick(rng, words)
    return f"{_pick(rng, _INTENSE)} {word}" if abs(level) == 3 else word


def _opinion_verb(level: int, flavour: str, rng: np.random.Generator) -> str:
    if abs(level) == 1:
        verb = _pick(rng, _MILD_VERBS["joy"])
        return verb if level > 0 else "never " + verb
    verb = _pick(rng, _STRONG_VERBS[flavour])
    return f"{_pick(rng, ('really', 'absolutely', 'totally'))} {verb}" if abs(level) == 3 else verb


def _tidy(words: str) -> str:
    """One space between words, a capital at the start, a full stop at the end."""
    text = " ".join(words.split()).replace(" ,", ",").rstrip(",")
    return text[0].upper() + text[1:] + "."


def compose(level: int, rng: np.random.Generator, flavour: str = "anger", surprised: bool = False) -> str:
    """A sentence of the given valence.

    Args:
        level: one of `LEVELS`.
        rng: where the choices come from.
        flavour: for a negative level, one of `NEGATIVE_FLAVOURS`: whose words are taken.
        surprised: open with an exclamation of surprise.

    Raises:
        ValueError: unknown level or flavour.

    Example:
        >>> compose(3, np.random.default_rng(0)) == compose(3, np.random.default_rng(0))
        True
    """
    if level not in LEVELS:
        raise ValueError(f"a sentence's level must be one of {LEVELS}, not {level!r}")
    if flavour not in NEGATIVE_FLAVOURS:
        raise ValueError(f"flavour must be one of {NEGATIVE_FLAVOURS}, not {flavour!r}")
    words = "joy" if level > 0 else flavour
    slots = {
        "topic": _pick(rng, _TOPICS),
        "person": _pick(rng, _PEOPLE),
        "tail": _pick(rng, _TAILS),
        "hour": _pick(rng, _HOURS),
        "place": _pick(rng, _PLACES),
    }
    if level == 0:
        frame = _pick(rng, _PLAIN_FRAMES)
    elif rng.random() < 0.3:
        frame = _pick(rng, _VERB_FRAMES)
        slots["verb"] = _opinion_verb(level, words, rng)
    else:
        frame = _pick(rng, _OPINION_FRAMES)
        slots["word"] = _opinion_word(level, words, rng)
    opener = _pick(rng, _SURPRISED if surprised else _OPENERS)
    return _tidy(f"{opener} {frame.format(**slots)}")
