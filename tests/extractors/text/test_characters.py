from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import extractors
from extractors.text.characters import CharacterNgrams
from extractors.transcript import Segment, Transcript


def naive(text: str, hash_dim: int, longest: int) -> np.ndarray:
    """Every n-gram of the tidied text, at the character it ends at."""
    tidy = " ".join(text.casefold().split())
    rows = []
    for end in range(1, len(tidy) + 1):
        if tidy[end - 1] == " ":
            continue
        grams = [tidy[end - n : end] for n in range(1, min(longest, end) + 1)]
        row = np.zeros(hash_dim)
        for gram in grams:
            digest = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big")
            row[(digest >> 1) % hash_dim] += 1 if digest & 1 else -1
        rows.append(row / np.sqrt(len(grams)))
    return np.array(rows)


@pytest.mark.parametrize("text", ["很好啊", "So  good,\tso\ngood!", " 我 不喜欢。", "a", "éÉ"])
@pytest.mark.parametrize(("hash_dim", "longest"), [(16, 1), (64, 2), (128, 3), (512, 4)])
def test_each_step_holds_the_ngrams_that_end_there(text: str, hash_dim: int, longest: int) -> None:
    found = CharacterNgrams(hash_dim=hash_dim, longest=longest).extract_text(Transcript.of(text))
    assert np.allclose(found.values, naive(text, hash_dim, longest))


@given(st.text(alphabet="很好坏ab ", max_size=20))
def test_sums_over_steps_count_the_ngrams_of_the_text(text: str) -> None:
    """With one n-gram length a step is one signed count: all steps together are the text's bag of characters."""
    found = CharacterNgrams(hash_dim=1024, longest=1).extract_text(Transcript.of(text))
    counts = Counter(text.replace(" ", ""))
    assert len(found) == sum(counts.values())
    magnitudes = sorted(abs(found.values.sum(axis=0)[found.values.any(axis=0)]).tolist())
    assert magnitudes == sorted(counts.values())  # these five characters fall into five features


def test_times_of_untimed_and_timed_text() -> None:
    reader = CharacterNgrams(hash_dim=8)
    assert reader.extract_text(Transcript.of("很好 a")).times.tolist() == [[0, 1], [1, 2], [2, 3]]
    timed = Transcript((Segment("很好", 1.0, 3.0), Segment("啊", 5.0, 6.0)))
    assert reader.extract_text(timed, 0.0, 10.0).times.tolist() == [[1, 2], [2, 3], [5, 6]]


def test_nothing_said() -> None:
    reader = CharacterNgrams(hash_dim=8)
    assert reader.extract_text(Transcript.of(" \n")).values.shape == (0, 8)


@pytest.mark.parametrize(("name", "value"), [("hash_dim", 0), ("hash_dim", 65537), ("longest", 0), ("longest", 9)])
def test_parameters_are_checked(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        CharacterNgrams(**{name: value})


def test_it_is_rebuilt_from_its_spec() -> None:
    first = extractors.build("text.characters", hash_dim=32, longest=2)
    again = extractors.rebuild(first.spec)
    assert again.spec == first.spec
    assert again.spec.fingerprint != extractors.build("text.characters", hash_dim=32, longest=3).spec.fingerprint
