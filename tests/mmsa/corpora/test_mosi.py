from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.mosi import load_mosi, load_mosi_audio, load_mosi_shuffled_audio
from mmsa.precomputed import open_precomputed
from mmsa.tasks import Regression

TABLE = """video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode
aBcD-12_xYz,1,THIS IS A MADE UP ROW,-1.0,,,,Negative,train
_dI--made-U,10,GREAT,3.0,,,,Positive,test
"""


def test_the_layout_is_read(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "Raw" / "_dI--made-U").mkdir(parents=True)
    (tmp_path / "Raw" / "_dI--made-U" / "10.mp4").touch()
    corpus = load_mosi(tmp_path)
    assert (corpus.name, corpus.tasks) == ("mosi", (Regression("sentiment", -3, 3, "mosi"),))
    first, last = corpus.clips
    assert (first.id, first.split, first.labels, first.media) == ("aBcD-12_xYz$_$1", "train", {"sentiment": -1}, None)
    assert last.media == tmp_path / "Raw" / "_dI--made-U" / "10.mp4"


def write_audio(folder: Path) -> None:
    """Two clips with a vector each, which no other clip's equals."""
    ids = ["aBcD-12_xYz_1", "_dI--made-U_10"]
    np.savez(folder / "audio_utterances.npz", ids=np.array(ids), features=np.array([[1.0, 2.0], [3.0, 4.0]]))


def test_the_audio_beside_the_table_is_a_corpus_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text(TABLE, encoding="utf-8")
    write_audio(tmp_path)
    assert load_mosi(tmp_path).features == {}
    corpus = load_mosi_audio(tmp_path)
    assert (corpus.name, corpus.note, corpus.clips) == ("mosi-audio", "", load_mosi(tmp_path).clips)
    table = open_precomputed(corpus, "audio")
    assert [table.sequence(i).values.tolist() for i in (0, 1)] == [[[1.0, 2.0]], [[3.0, 4.0]]]


def test_the_control_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text(TABLE, encoding="utf-8")
    write_audio(tmp_path)
    corpus = load_mosi_shuffled_audio(tmp_path)
    assert corpus.name == "mosi-shuffled-audio"
    assert "A control: the audio vectors were dealt out anew" in corpus.note
    assert open_precomputed(corpus, "audio").spec != open_precomputed(load_mosi_audio(tmp_path), "audio").spec


real = Path(os.environ.get("MMSA_DATA", "/nowhere")) / "mosi"


@pytest.mark.skipif(not (real / "label.csv").is_file(), reason="MMSA_DATA holds no mosi/label.csv")
def test_the_real_table_holds_what_was_published() -> None:
    corpus = load_corpus("mosi")
    assert [len(corpus.split(split)) for split in ("train", "valid", "test")] == [1284, 229, 686]
    videos = [{clip.dialogue for clip in corpus.split(split)} for split in ("train", "valid", "test")]
    # The standard folds: 52, 10 and 31 of 93 videos, none in two of them.
    assert [len(found) for found in videos] == [52, 10, 31]
    assert len(set.union(*videos)) == 93
    assert corpus.note == ""
    assert all(clip.transcript and "sentiment" in clip.labels for clip in corpus.clips)


@pytest.mark.skipif(
    not ((real / "label.csv").is_file() and (real / "audio_utterances.npz").is_file()),
    reason="MMSA_DATA holds no mosi/label.csv with audio_utterances.npz",
)
def test_real_clips_are_those_of_the_audio_features() -> None:
    with np.load(real / "audio_utterances.npz", allow_pickle=False) as features:
        splits = dict(zip(features["ids"].tolist(), features["split"].tolist(), strict=True))
    clips = load_corpus("mosi").clips
    assert {clip.id.replace("$_$", "_"): clip.split for clip in clips} == splits


@pytest.mark.skipif(
    not ((real / "label.csv").is_file() and (real / "audio_utterances.npz").is_file()),
    reason="MMSA_DATA holds no mosi/label.csv with audio_utterances.npz",
)
def test_real_audio_goes_to_its_clips_and_the_control_keeps_to_its_split() -> None:
    with np.load(real / "audio_utterances.npz", allow_pickle=False) as data:
        vectors = dict(zip(data["ids"].tolist(), data["features"].astype(np.float32), strict=True))
    own, control = (load_corpus(name) for name in ("mosi-audio", "mosi-shuffled-audio"))
    tables = [open_precomputed(corpus, "audio") for corpus in (own, control)]
    assert np.array_equal(tables[0].values, [vectors[clip.id.replace("$_$", "_")] for clip in own.clips])
    for split in ("train", "valid", "test"):
        rows = [i for i, clip in enumerate(own.clips) if clip.split == split]
        first, second = (np.asarray(table.values)[rows] for table in tables)
        assert np.array_equal(np.sort(first, axis=0), np.sort(second, axis=0))  # the same vectors …
        assert (first == second).all(axis=1).mean() < 0.05  # … at other clips
