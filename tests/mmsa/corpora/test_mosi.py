from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.mosi import load_mosi
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
