"""`TextTokens`: the word pieces that a pretrained text encoder reads, for one that is trained along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import TextExtractor, make_spec
from extractors.errors import ToolError
from extractors.sequence import FeatureSequence
from extractors.text.timed_text import TimedText
from extractors.text.transformer import without_spaces
from extractors.text.words import word_spans
from extractors.transcript import Transcript

BASE = 2048
"""An id is kept as two digits to this base: float16 holds every whole number up to it."""

BEGINS, GOES_ON, NO_WORD = 1.0, 0.0, -1.0
"""What the feature `word` says of a piece: first of a word, a later one, or one that stands for no character."""

_TOGETHER = 1024


class TextTokens(TextExtractor):
    """One step per word piece: its id in the tokenizer's vocabulary, and whether a word begins with it.

    These are what an encoder reads, not features: a head makes nothing of ids. They are for encoders that are trained
    together with the head, which add the special tokens and cut what is longer than they take. A text of any length
    is given whole. An id is kept as two digits, `id_high * 2048 + id_low`, so that it survives float16.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with the tokenizer's files and `config.json`;
            `"package:NAME/FOLDER"` is such a folder inside the installed package `NAME`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        files_sha256: what the hash of the local folder's files, but for the weights, must be; filled in when left out.

    Raises:
        ToolError: transformers is missing, the tokenizer cannot be had or cannot say which characters a piece stands
            for, or the folder is not the one the hash names.
    """

    REGISTRY_NAME = "text.tokens"
    DEFINITION = 1
    raw = True

    def __init__(self, *, model: str, revision: str | None = None, files_sha256: str | None = None) -> None:
        found = pretrained.find(model, revision, files_sha256=files_sha256, weights=False)
        self._source = found.source
        self._tokenizer: Any = None
        self.names = ("id_high", "id_low", "word")
        self.spec = make_spec(self.REGISTRY_NAME, "transformers", self.DEFINITION, found.identity, found.hints)

    def extract_text(
        self, transcript: Transcript, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> FeatureSequence:
        """See `TextExtractor.extract_text`; how pieces get their times is told in `TimedText`."""
        return self._extract([TimedText(transcript, start_seconds, end_seconds)])[0]

    def extract_many(self, transcripts: Sequence[Transcript]) -> Iterator[FeatureSequence]:
        """See `TextExtractor.extract_many`."""
        for start in range(0, len(transcripts), _TOGETHER):
            yield from self._extract([TimedText(t, 0.0, None) for t in transcripts[start : start + _TOGETHER]])

    def _extract(self, texts: Sequence[TimedText]) -> list[FeatureSequence]:
        filled = [i for i, timed in enumerate(texts) if timed.text]
        result = [self.empty() for _ in texts]
        if not filled:
            return result
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._source)
        encoded = self._tokenizer(
            [texts[i].text for i in filled],
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_offsets_mapping=True,
            verbose=False,  # text longer than the model takes is cut by whoever runs the model
        )
        for i, ids, offsets in zip(filled, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            spans = without_spaces(offsets, texts[i].text)
            if (spans[:, 1] > spans[:, 0]).any():
                result[i] = texts[i].sequence(_rows(ids, spans, texts[i].text), spans, self.names)
        return result


def load_tokenizer(source: pretrained.Source) -> Any:
    """The tokenizer of a model.

    Raises:
        ToolError: it cannot be had, or cannot say which characters a piece stands for.
    """
    tokenizer = pretrained.load("tokenizer", "AutoTokenizer", source)
    if not getattr(tokenizer, "is_fast", False):
        raise ToolError(
            f"{source.name}: its tokenizer cannot tell which characters a piece stands for; give a model with a "
            "tokenizer.json"
        )
    return tokenizer


def _rows(ids: Sequence[int], spans: NDArray[np.int64], text: str) -> NDArray[np.float32]:
    """`(T, 3)`: both digits of each id, and what it is to its word."""
    number = np.asarray(ids, np.int64)
    first = np.array([start for start, _ in word_spans(text)], np.int64)
    word = np.searchsorted(first, spans[:, 1] - 1, side="right")
    real = spans[:, 1] > spans[:, 0]
    begins = np.full(len(number), NO_WORD)
    begins[real] = np.where(np.diff(word[real], prepend=-1) > 0, BEGINS, GOES_ON)
    return np.asarray(np.stack([number // BASE, number % BASE, begins], axis=1), np.float32)
