from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Corpus
from mmsa.errors import UsageError
from mmsa.precomputed import precomputed_spec, write_precomputed
from mmsa.runs import open_workshop
from mmsa.subject import Subject, open_material, open_subject

if TYPE_CHECKING:
    from conftest import Trained


def test_a_run_is_found_by_id_by_latest_and_by_folder(trained: Trained) -> None:
    for name, run_id in (("latest", trained.run.id), (trained.run.id, trained.run.id), (trained.run.bundle, None)):
        subject = open_subject(name)
        assert subject.run_id == run_id
        assert subject.modalities == ("audio", "text")
        assert subject.settings["corpus"] == "small"
        assert subject.corpus(None, None).name == "small"


def test_a_bundle_by_itself_knows_its_corpus_but_not_where_it_lies(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MMSA_DATA", raising=False)
    shutil.copytree(trained.run.bundle, tmp_path / "bundle")
    subject = open_subject(tmp_path / "bundle")
    assert subject.settings == {}
    assert subject.corpus(None, trained.root).name == "small"
    with pytest.raises(UsageError, match="the corpus 'small' is not part of mmsa: give its folder with --root"):
        subject.corpus(None, None)


def test_a_run_that_is_not_there(trained: Trained) -> None:
    with pytest.raises(UsageError, match="no bundle found for 'nosuchrun'"):
        open_subject("nosuchrun")


@pytest.fixture
def subject(copied: Trained) -> Subject:
    return open_subject("latest")


def load(copied: Trained) -> Corpus:
    return load_corpus("small", copied.root)


def open_trusted(subject: Subject, corpus: Corpus, **options: Any) -> Any:
    return open_material(subject, corpus, "test", jobs=1, trust_extractors=True, **options)


def test_only_the_clips_under_test_are_extracted(copied: Trained, subject: Subject, small: Any) -> None:
    found = open_trusted(subject, load(copied))
    assert small.CALLS["audio"] == small.CALLS["text"] == 7
    assert [clip.split for clip in found.corpus.clips] == ["test"] * 7
    assert found.notes == ("1 of 7 clips lack audio (1 × silent)", "1 of 7 clips lack text (1 × no transcript)")
    whole = open_workshop(copied.config)
    rows = np.flatnonzero([clip.split == "test" for clip in whole.corpus.clips])
    for key, table in found.tables.items():
        for own, row in enumerate(rows):
            np.testing.assert_array_equal(table.sequence(own).values, whole.tables[key].sequence(int(row)).values)


def test_what_no_clip_has_is_done_without_and_said(copied: Trained, subject: Subject) -> None:
    corpus = load(copied)
    words = replace(corpus, clips=tuple(replace(clip, media=None) for clip in corpus.clips))
    found = open_trusted(subject, words)
    assert found.modalities == tuple(found.tables) == ("text",)
    assert found.notes[0] == "no clip has audio: the model goes without"
    silent = replace(words, clips=tuple(replace(clip, transcript=None) for clip in words.clips))
    with pytest.raises(UsageError, match="has nothing that this model takes: it takes audio, text"):
        open_trusted(subject, silent)


def test_modalities_can_be_chosen(copied: Trained, subject: Subject, small: Any) -> None:
    found = open_trusted(subject, load(copied), modalities=("text",))
    assert tuple(found.tables) == ("text",)
    assert small.CALLS["audio"] == 0
    with pytest.raises(UsageError, match=r"there is no modality of this model 'txt'. Did you mean 'text'\?"):
        open_trusted(subject, load(copied), modalities=("txt",))


def test_code_of_others_is_run_only_when_trusted(copied: Trained, subject: Subject) -> None:
    with pytest.raises(UsageError, match="small_extractors:Loudness, small_extractors:WordLengths, code that is not"):
        open_material(subject, load(copied), "test", jobs=1)


def test_a_split_that_is_not_there(copied: Trained, subject: Subject) -> None:
    corpus = load(copied)
    with pytest.raises(UsageError, match="the corpus small has no valid split: choose another with --split"):
        open_material(subject, replace(corpus, clips=corpus.split("test")), "valid")


class TestReadyMade:
    """A model whose audio features came ready-made with its corpus."""

    @pytest.fixture
    def corpus(self, copied: Trained, tmp_path: Path) -> Corpus:
        corpus = load(copied)
        spec = precomputed_spec("audio.pkl", "0123456789abcdef0123")
        clips = ((clip.id, np.full((2, 1), i, np.float32), "none") for i, clip in enumerate(corpus.clips))
        write_precomputed(tmp_path / "audio", spec, ("loudness",), clips)
        return replace(corpus, features={"audio": tmp_path / "audio"})

    @pytest.fixture
    def subject(self, copied: Trained, corpus: Corpus) -> Subject:
        found = open_subject("latest")
        spec = precomputed_spec("audio.pkl", "0123456789abcdef0123")
        bundle = replace(found.bundle, extractors={**found.bundle.extractors, "audio": spec})
        return replace(found, bundle=bundle)

    def test_it_is_evaluated_where_they_are(self, subject: Subject, corpus: Corpus) -> None:
        found = open_trusted(subject, corpus)
        assert set(found.extractors) == {"text"}
        assert found.corpus is corpus  # all clips, since ready-made features are of all
        assert found.tables["audio"].sequence(5).values.tolist() == [[5.0], [5.0]]
        assert len(found.tables["text"].offsets) == len(corpus.clips) + 1

    def test_it_cannot_be_evaluated_where_they_are_not(self, subject: Subject, corpus: Corpus) -> None:
        with pytest.raises(UsageError, match=r"ready-made \(from audio.pkl\).* small brings none.* leave audio out"):
            open_trusted(subject, replace(corpus, features={}))
        found = open_trusted(subject, replace(corpus, features={}), modalities=("text",))
        assert found.modalities == ("text",)

    def test_nor_where_there_are_others(self, subject: Subject, corpus: Corpus, tmp_path: Path) -> None:
        clips = ((clip.id, np.ones((1, 1), np.float32), "none") for clip in corpus.clips)
        write_precomputed(tmp_path / "other", precomputed_spec("other.pkl", "f" * 20), ("loudness",), clips)
        with pytest.raises(UsageError, match=r"those of small are others \(from other.pkl\)"):
            open_trusted(subject, replace(corpus, features={"audio": tmp_path / "other"}))
