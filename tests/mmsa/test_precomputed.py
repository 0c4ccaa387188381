from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from extractors.spec import ExtractorSpec
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.precomputed import (
    is_precomputed,
    open_precomputed,
    precomputed_spec,
    refuse_precomputed,
    write_precomputed,
)

SPEC = precomputed_spec("mosi.pkl", "0123456789abcdef0123", modality="audio")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    values = [np.array([[1, 2], [3, 4]], np.float32), np.zeros((0, 2), np.float32), np.array([[5, 6]], np.float32)]
    clips = [(name, value, "silent") for name, value in zip("abc", values, strict=True)]
    write_precomputed(tmp_path / "features" / "audio", SPEC, ("x", "y"), clips)
    return Corpus(
        "made", tuple(Clip(n, "train", {}) for n in "abc"), (), features={"audio": tmp_path / "features/audio"}
    )


def test_features_come_back_with_step_numbers_for_times(corpus: Corpus) -> None:
    table = open_precomputed(corpus, "audio")
    assert [table.sequence(i).values.tolist() for i in range(3)] == [[[1, 2], [3, 4]], [], [[5, 6]]]
    assert table.sequence(0).times.tolist() == [[0, 1], [1, 2]]
    assert table.missing == {"b": "silent"}
    assert table.names == ("x", "y")
    assert (table.spec.name, table.spec.tool, table.spec.version) == ("precomputed", "mosi.pkl", "0123456789abcdef")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("abcd", "of other clips than its table: 3 and 4, different from clip 4 on"),
        ("ab", "3 and 2, different from clip 3 on"),
        ("acb", "3 and 3, different from clip 2 on"),
    ],
)
def test_features_of_other_clips_are_refused(corpus: Corpus, ids: str, message: str) -> None:
    other = Corpus("made", tuple(Clip(n, "train", {}) for n in ids), (), features=corpus.features)
    with pytest.raises(UsageError, match=message):
        open_precomputed(other, "audio")


def test_a_folder_without_features_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    other = Corpus("made", corpus.clips, (), features={"audio": tmp_path})
    with pytest.raises(UsageError, match="holds no features: the corpus made names it as its audio"):
        open_precomputed(other, "audio")


def test_a_write_that_fails_leaves_no_table(tmp_path: Path) -> None:
    def clips():
        yield "a", np.ones((1, 1), np.float32), ""
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_precomputed(tmp_path / "features" / "audio", SPEC, ("x",), clips())
    assert list((tmp_path / "features").iterdir()) == []


def test_only_features_without_an_extractor_are_refused() -> None:
    own = ExtractorSpec("text.lexical", "mmsa", "1")
    assert (is_precomputed(SPEC), is_precomputed(own)) == (True, False)
    refuse_precomputed({"text": own})
    with pytest.raises(UsageError, match=r"ready-made with its corpus: audio \(from mosi\.pkl\)\. They cannot be"):
        refuse_precomputed({"text": own, "audio": SPEC})
