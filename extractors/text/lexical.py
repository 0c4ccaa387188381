"""`Lexical`: what the words say, by lexicon and hashing, without any download."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import TextExtractor, check_range, make_spec
from extractors.sequence import FeatureSequence
from extractors.text.timed_text import TimedText
from extractors.text.words import word_spans
from extractors.transcript import Transcript

_CUES = (
    "valence",
    "valence_in_context",
    "in_lexicon",
    "intensifier",
    "negation",
    "negated",
    "contrast",
    "sentence_compound",
    "sentence_positive",
    "sentence_negative",
    "sentence_neutral",
    "upper_case",
    "capitalised",
    "elongated",
    "exclamation_marks",
    "question_marks",
    "pause_mark",
    "stop_mark",
    "word_length_log",
    "sentence_position",
)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*$")
_ELONGATED = re.compile(r"([^\W\d_])\1\1")
_CONTRAST = {"but", "however", "although", "though", "yet", "except"}


@dataclass(frozen=True)
class _Token:
    text: str
    first: int
    after: int

    @property
    def bare(self) -> str:
        """The word without punctuation around it, in lower case."""
        return self.text.strip("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~…“”‘’。！？，、").lower()


class Lexical(TextExtractor):
    """One step per word: sentiment by VADER (Hutto & Gilbert 2014), cues of style, and the word itself, hashed.

    A word is what stands between spaces; in Chinese and Japanese every character is one. Signs that stand alone
    belong to the word before. Per word:

    - `valence`: VADER's lexicon, −4 to 4, 0 where it has no entry (`in_lexicon` tells); `valence_in_context`: after its
      rules for intensifiers, negation, capitals, idioms and "but". `intensifier`: VADER's weight of the word as an
      intensifier (±0.293). `negation`: the word negates; `negated`: one of the three words before does.
      An emoji counts with the words that describe it.
    - `sentence_*`: VADER's scores of the sentence (for unknown ends of sentences, of the whole text), on each of its
      words.
    - Case, elongation ("sooo"), punctuation after the word (exclamation and question marks count to 4), length
      (`log(1 + characters)`) and position in the sentence (0 first, 1 last).
    - `hash_*`: the word and its character trigrams (Bojanowski et al. 2017) under signed feature hashing
      (Weinberger et al. 2009) by BLAKE2b, divided by the square root of their number. Words that look alike lie close.

    The sentiment lexicon is English. For other languages the sentiment channels are 0 and the rest stays useful.

    Args:
        hash_dim: dimensions of the hashed word; 0 leaves it out.

    Raises:
        ValueError: `hash_dim` is out of its range.

    Example:
        >>> reader = Lexical(hash_dim=0)
        >>> sequence = reader.extract_text(Transcript.of("not good"))
        >>> good = dict(zip(sequence.names, sequence.values[1].tolist()))
        >>> round(good["valence"], 2), round(good["valence_in_context"], 3)
        (1.9, -1.406)
    """

    REGISTRY_NAME = "text.lexical"
    DEFINITION = 1
    languages = ("en",)

    def __init__(self, *, hash_dim: int = 64) -> None:
        check_range("hash_dim", hash_dim, 0, 4096)
        self._hash_dim = int(hash_dim)
        self.names = (*_CUES, *(f"hash_{i}" for i in range(self._hash_dim)))
        self.spec = make_spec(self.REGISTRY_NAME, "vaderSentiment", self.DEFINITION, {"hash_dim": self._hash_dim})

    def extract_text(
        self, transcript: Transcript, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> FeatureSequence:
        """See `TextExtractor.extract_text`; how words get their times is told in `TimedText`."""
        timed = TimedText(transcript, start_seconds, end_seconds)
        sentences = _sentences(_tokens(timed.text.replace("’", "'")))
        rows = [row for sentence in sentences for row in self._rows(sentence)]
        if not rows:
            return self.empty()
        spans = np.array([(t.first, t.after) for sentence in sentences for t in sentence], np.int64)
        return timed.sequence(np.array(rows, np.float32), spans, self.names)

    def _rows(self, sentence: list[_Token]) -> list[NDArray[np.float32]]:
        cues = _sentiment(sentence)
        last = max(1, len(sentence) - 1)
        return [
            np.concatenate([[*cues[i], *_style(token), i / last], _hashed(token.bare or token.text, self._hash_dim)])
            for i, token in enumerate(sentence)
        ]


def _tokens(text: str) -> list[_Token]:
    """Words with where they stand; a sign that stands alone is joined to the word before."""
    tokens: list[_Token] = []
    for first, after in word_spans(text):
        token = _Token(text[first:after], first, after)
        if tokens and not any(c.isalnum() for c in token.text) and not _is_emotive(token.text):
            before = tokens.pop()
            token = _Token(before.text + token.text, before.first, before.after)
        tokens.append(token)
    return [t for t in tokens if any(c.isalnum() for c in t.text) or _is_emotive(t.text)]


def _sentences(tokens: list[_Token]) -> list[list[_Token]]:
    sentences: list[list[_Token]] = [[]]
    for token in tokens:
        sentences[-1].append(token)
        if _SENTENCE_END.search(token.text):
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


@lru_cache(maxsize=1)
def _vader() -> tuple[Any, Any]:
    from vaderSentiment import vaderSentiment

    return vaderSentiment, vaderSentiment.SentimentIntensityAnalyzer()


def _is_emotive(text: str) -> bool:
    """Whether it is an emoticon of the lexicon or holds an emoji."""
    _, analyzer = _vader()
    return text.lower() in analyzer.lexicon or any(c in analyzer.emojis for c in text)


def _sentiment(sentence: list[_Token]) -> list[list[float]]:
    """The sentiment cues of each word, `valence` to `sentence_neutral`."""
    module, analyzer = _vader()
    words = [_described(token.text, analyzer) for token in sentence]
    contexts = _in_context([w.replace(" ", "_") if " " in w else w for w in words], module, analyzer)
    scores = analyzer.polarity_scores(" ".join(words))
    shared = [scores["compound"], scores["pos"], scores["neg"], scores["neu"]]
    negations = [module.negated([token.bare]) for token in sentence]
    rows = []
    for i, (token, word) in enumerate(zip(sentence, words, strict=True)):
        valence = _valence(word, token.bare, analyzer)
        context = contexts[i] if contexts[i] or " " not in word else valence
        rows.append(
            [
                valence,
                context,
                float(valence != 0.0),
                module.BOOSTER_DICT.get(token.bare, 0.0),
                float(negations[i]),
                float(any(negations[max(0, i - 3) : i])),
                float(token.bare in _CONTRAST),
                *shared,
            ]
        )
    return rows


def _described(text: str, analyzer: Any) -> str:
    """The token with its emojis put into words."""
    if not any(c in analyzer.emojis for c in text):
        return text
    return " ".join("".join(f" {analyzer.emojis[c]} " if c in analyzer.emojis else c for c in text).split())


def _valence(word: str, bare: str, analyzer: Any) -> float:
    if " " in word:
        return float(sum(analyzer.lexicon.get(part.lower(), 0.0) for part in word.split()))
    return float(analyzer.lexicon.get(word.lower(), analyzer.lexicon.get(bare, 0.0)))


def _in_context(words: list[str], module: Any, analyzer: Any) -> list[float]:
    """VADER's valence of each word after its rules; each word is judged where it stands, also when it is repeated."""
    text = module.SentiText(" ".join(words))
    items = text.words_and_emoticons
    sentiments: list[float] = []
    for i, item in enumerate(items):
        kind_of = item.lower() == "kind" and i + 1 < len(items) and items[i + 1].lower() == "of"
        if item.lower() in module.BOOSTER_DICT or kind_of:
            sentiments.append(0.0)
        else:
            analyzer.sentiment_valence(0, text, item, i, sentiments)
    # Not VADER's own: that one finds words again by their valence, and so hits the wrong one where two are equal.
    return _after_but(items, [float(s) for s in sentiments])


def _after_but(items: list[str], sentiments: list[float]) -> list[float]:
    """VADER's rule for "but": what comes before counts half, what comes after half as much again."""
    lower = [item.lower() for item in items]
    if "but" not in lower:
        return sentiments
    at = lower.index("but")
    return [s * (0.5 if i < at else 1.5 if i > at else 1.0) for i, s in enumerate(sentiments)]


def _style(token: _Token) -> list[float]:
    letters = [c for c in token.text if c.isalpha()]
    tail = token.text[len(token.text.rstrip("!?.,;:…-—–\"'”’)]。！？，、")) :]
    return [
        float(len(letters) > 1 and all(c.isupper() for c in letters)),
        float(bool(letters) and letters[0].isupper() and not all(c.isupper() for c in letters)),
        float(_ELONGATED.search(token.text) is not None),
        float(min(4, sum(tail.count(c) for c in "!！"))),
        float(min(4, sum(tail.count(c) for c in "?？"))),
        float(any(c in tail for c in ",;:—–，、")),
        float(any(c in tail for c in ".…。")),
        math.log1p(len(token.bare)),
    ]


@lru_cache(maxsize=65536)
def _hashed(word: str, dim: int) -> NDArray[np.float32]:
    """The word and its trigrams under signed hashing: `(dim,)`."""
    vector = np.zeros(dim, np.float32)
    if not dim:
        return vector
    framed = f"<{word}>"
    parts = [framed, *(framed[i : i + 3] for i in range(len(framed) - 2))]
    for part in parts:
        digest = int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
        vector[(digest >> 1) % dim] += 1.0 if digest & 1 else -1.0
    vector /= np.float32(math.sqrt(len(parts)))
    vector.setflags(write=False)
    return vector
