"""Transcripts with the errors of a speech recogniser: words heard as others, left out, or made up."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from extractors.text.words import word_spans

SUBSTITUTED, DELETED, INSERTED = 0.6, 0.25, 0.15
"""Shares of the errors."""

_CORE = re.compile(r"\w(?:.*\w)?", re.DOTALL)
_NEAR, _CLOSEST = 16, 3
# English spellings that sound alike or nearly so; the first that fits is applied, from the top.
_SOUNDS = tuple(
    (re.compile(pattern), sound)
    for pattern, sound in (
        (r"[^\w]|_", ""),
        (r"^(kn|gn|pn)", "n"),
        (r"^wr", "r"),
        (r"^wh", "w"),
        (r"ph", "f"),
        (r"(tch|sh|tio|cio)", "x"),
        (r"gh", ""),
        (r"(ck|qu?|c(?![eiyh]))", "k"),
        (r"(c(?=[eiy])|z)", "s"),
        (r"dg", "j"),
        (r"[aeiouy]+", "a"),
        (r"(\w)\1+", r"\1"),
    )
)


class Vocabulary:
    """The words of a corpus, found by how they sound.

    Args:
        transcripts: what is said in the corpus.
    """

    def __init__(self, transcripts: Iterable[str]) -> None:
        counts = Counter(core for text in transcripts for word in words_of(text) if (core := _core(word).lower()))
        self.words = tuple(sorted(counts))
        self._keys = [sound_of(word) for word in self.words]
        self._reach = np.cumsum([counts[word] for word in self.words], dtype=np.float64)
        self._by_pair: dict[str, list[int]] = defaultdict(list)
        for number, key in enumerate(self._keys):
            for pair in _pairs(key):
                self._by_pair[pair].append(number)
        self._similar: dict[str, tuple[str, ...]] = {}

    def similar(self, word: str) -> tuple[str, ...]:
        """The other words that come closest in sound and spelling, closest first; empty where none shares a sound.

        Closeness is the edit distance of what the two sound like (`sound_of`) plus half that of their letters.
        """
        word = word.lower()
        if word not in self._similar:
            self._similar[word] = self._search(word)
        return self._similar[word]

    def _search(self, word: str) -> tuple[str, ...]:
        key = sound_of(word)
        shared = Counter(number for pair in _pairs(key) for number in self._by_pair.get(pair, ()))
        overlap = {n: 2 * c / (len(_pairs(key)) + len(_pairs(self._keys[n]))) for n, c in shared.items()}
        near = sorted(overlap, key=lambda n: (-overlap[n], n))[: _NEAR + 1]
        ranked = sorted(
            (distance(key, self._keys[n]) + distance(word, self.words[n]) / 2, self.words[n])
            for n in near
            if self.words[n] != word
        )
        return tuple(other for _, other in ranked[:_CLOSEST])

    def frequent(self, chance: float) -> str:
        """A word by its share of all words: `chance` in [0, 1) picks it."""
        return self.words[int(np.searchsorted(self._reach, chance * self._reach[-1], side="right"))]


def mishear(text: str, rate: float, vocabulary: Vocabulary, *, seed: int, key: str) -> str:
    """A transcript as a speech recogniser with a word error rate might have written it.

    Each word has the chance `rate` of one error: another word of similar sound in its place (`SUBSTITUTED` of the
    errors), nothing in its place (`DELETED`), or a frequent word after it (`INSERTED`). Words that one rate hits are
    also hit by every higher one. A Han or kana character is a word.

    Args:
        text: what was said.
        rate: in [0, 1].
        vocabulary: where words come from.
        seed: another seed makes other errors.
        key: names the clip.
    """
    spans = word_spans(text)
    digest = np.frombuffer(hashlib.blake2b(f"{key}\0{text}".encode(), digest_size=16).digest(), np.uint32)
    draws = np.random.default_rng([seed, *(int(word) for word in digest)]).random((len(spans), 3))
    parts: list[str] = []
    last, made_up = 0, False
    for (first, after), (error, kind, choice) in zip(spans, draws, strict=True):
        gap, word = text[last:first], text[first:after]
        last = after
        if error >= rate or not vocabulary.words:
            parts += [gap, word]
            made_up = False
        elif kind >= SUBSTITUTED + DELETED:
            core = _core(word)
            spaced = " " if len(core) > 1 or core.isascii() else ""  # Han and kana stand without
            parts += [gap, word, spaced + vocabulary.frequent(choice)]
            made_up = True
        elif kind < SUBSTITUTED or made_up:
            # A word made up and one left out right after it would be a single substitution: fewer errors than asked.
            parts += [gap, _replaced(word, vocabulary, choice)]
        # what is left: the word goes, with the space before it
    return "".join([*parts, text[last:]]).strip()


def _replaced(word: str, vocabulary: Vocabulary, choice: float) -> str:
    """Another word with the same capitals and signs; nothing where the vocabulary has no other."""
    core = _core(word)
    others = vocabulary.similar(core)
    other = others[int(choice * len(others))] if others else vocabulary.frequent(choice)
    if other == core.lower():
        return ""
    if len(core) > 1 and core.isupper():
        other = other.upper()
    elif core[:1].isupper():
        other = other[0].upper() + other[1:]
    return word.replace(core, other, 1) if core else other


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Edit operations on words over the words of all references; NaN where these have none."""
    pairs = [(words_of(said), words_of(heard)) for said, heard in zip(references, hypotheses, strict=True)]
    total = sum(len(said) for said, _ in pairs)
    return sum(distance(said, heard) for said, heard in pairs) / total if total else math.nan


def words_of(text: str) -> list[str]:
    """The words of a text, as `extractors.text.words` counts them."""
    return [text[first:after] for first, after in word_spans(text)]


def sound_of(word: str) -> str:
    """A rough key of how an English word sounds; other scripts stay as they are.

    Example:
        >>> sound_of("knight") == sound_of("night")
        True
        >>> sound_of("phase"), sound_of("face")
        ('fasa', 'fasa')
    """
    key = word.lower()
    for pattern, sound in _SOUNDS:
        key = pattern.sub(sound, key)
    return key


def _pairs(key: str) -> set[str]:
    """Neighbouring letters, with the word's ends."""
    closed = f"^{key}$"
    return {closed[i : i + 2] for i in range(len(closed) - 1)}


def _core(word: str) -> str:
    """A word without the signs around it."""
    found = _CORE.search(word)
    return found[0] if found else ""


def distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Levenshtein's distance: the fewest substitutions, deletions and insertions that make one the other.

    Example:
        >>> distance("kitten", "sitting")
        3
    """
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]
