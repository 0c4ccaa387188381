from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mmsa.corpora.clip import Clip, Corpus
from mmsa.tasks import Regression

LEVELS = ((0.5, 0.25), (0.125,), (0.75, 0.0, 0.5))
WORDS = ("Good day", "so THEN what", "no")

CorpusOf = Callable[..., Corpus]


def _corpus_of(clips: Sequence[Clip], name: str = "made") -> Corpus:
    return Corpus(name, tuple(clips), (Regression("sentiment", -1, 1),))


@pytest.fixture
def corpus_of() -> CorpusOf:
    """`(clips, name="made")` → a corpus."""
    return _corpus_of


@pytest.fixture
def texts() -> Callable[..., Corpus]:
    """`(*transcripts)` → a corpus without media; clip ids are "0", "1", …"""
    return lambda *words: _corpus_of([Clip(str(i), "train", {}, transcript=own) for i, own in enumerate(words)])


@pytest.fixture
def corpus(tmp_path: Path, write_wav: Callable[..., Path]) -> Corpus:
    """Three clips with sound and words: loudness (0.5, 0.25), (0.125), (0.75, 0, 0.5)."""
    return _corpus_of(
        [
            Clip(f"clip{i}", "train", {}, write_wav(tmp_path / f"{i}.wav", levels), transcript=words)
            for i, (levels, words) in enumerate(zip(LEVELS, WORDS, strict=True))
        ]
    )


@pytest.fixture
def contents() -> Callable[[], dict[str, bytes]]:
    """`()` → the bytes of every file in the feature store but locks, by path in it."""

    def read() -> dict[str, bytes]:
        root = Path(os.environ["MMSA_CACHE"]) / "features"
        files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
        return {str(path.relative_to(root)): path.read_bytes() for path in files if ".media" not in path.parts}

    return read
