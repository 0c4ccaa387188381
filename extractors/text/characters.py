"""`CharacterNgrams`: what the characters say, by hashing, in any language and without any download."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from extractors.base import TextExtractor, check_range, make_spec
from extractors.sequence import FeatureSequence
from extractors.text.timed_text import TimedText
from extractors.transcript import Transcript


class CharacterNgrams(TextExtractor):
    """One step per character: the character n-grams that end at it, hashed.

    For languages without an encoder at hand, above all those written without spaces, where a run of two or three
    characters is about a word. Every n-gram up to `longest` characters adds ±1 to one of `hash_dim` features (signed
    feature hashing by BLAKE2b; Weinberger et al. 2009), and a step is divided by the square root of how many it has.
    Case is folded; white space of any length is one space, which n-grams may hold but no step ends at.

    Args:
        hash_dim: number of features.
        longest: characters of the longest n-gram.

    Raises:
        ValueError: a parameter is out of its range.

    Example:
        >>> reader = CharacterNgrams(hash_dim=64, longest=2)
        >>> len(reader.extract_text(Transcript.of("很好 ok")))
        4
    """

    REGISTRY_NAME = "text.characters"
    DEFINITION = 1

    def __init__(self, *, hash_dim: int = 512, longest: int = 3) -> None:
        check_range("hash_dim", hash_dim, 1, 65536)
        check_range("longest", longest, 1, 8)
        self._hash_dim, self._longest = int(hash_dim), int(longest)
        self.names = tuple(f"ngram_{i}" for i in range(self._hash_dim))
        parameters = {"hash_dim": self._hash_dim, "longest": self._longest}
        self.spec = make_spec(self.REGISTRY_NAME, "numpy", self.DEFINITION, parameters)

    def extract_text(
        self, transcript: Transcript, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> FeatureSequence:
        """See `TextExtractor.extract_text`; how characters get their times is told in `TimedText`."""
        timed = TimedText(transcript, start_seconds, end_seconds)
        places = [i for i, letter in enumerate(timed.text) if not letter.isspace()]
        if not places:
            return self.empty()
        values = np.zeros((len(places), self._hash_dim), np.float32)
        before = ""
        step, last = 0, ""
        for letter in timed.text:
            if letter.isspace():
                before += " " if not last.isspace() else ""
            else:
                before += letter.casefold()
                self._add(values[step], before)
                step += 1
            before, last = before[-self._longest - 2 :], letter
        spans = np.array([(i, i + 1) for i in places], np.int64)
        return timed.sequence(values, spans, self.names)

    def _add(self, row: np.ndarray[tuple[int], np.dtype[np.float32]], text: str) -> None:
        """Count the n-grams that end where the text does."""
        found = [text[-length:] for length in range(1, min(self._longest, len(text)) + 1)]
        for ngram in found:
            index, sign = _slot(ngram, self._hash_dim)
            row[index] += sign
        row /= np.sqrt(len(found))


@lru_cache(maxsize=1 << 18)
def _slot(ngram: str, size: int) -> tuple[int, float]:
    digest = int.from_bytes(hashlib.blake2b(ngram.encode(), digest_size=8).digest(), "big")
    return (digest >> 1) % size, 1.0 if digest & 1 else -1.0
