from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.mosei import load_mosei
from mmsa.tasks import Regression

TABLE = """video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode
aBcD-12_xYz,1,,0.0,,,,Neutral,train
aBcD-12_xYz,4,,-2.6666667,,,,Negative,valid
"""


def test_the_layout_is_read_without_text(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text(TABLE, encoding="utf-8")
    corpus = load_mosei(tmp_path)
    assert (corpus.name, corpus.tasks) == ("mosei", (Regression("sentiment", -3, 3, "mosi"),))
    assert [(c.id, c.split, c.labels, c.transcript) for c in corpus.clips] == [
        ("aBcD-12_xYz$_$1", "train", {"sentiment": 0.0}, None),
        ("aBcD-12_xYz$_$4", "valid", {"sentiment": -2.6666667}, None),
    ]


@pytest.mark.skipif(
    not (Path(os.environ.get("MMSA_DATA", "/nowhere")) / "mosei" / "label.csv").is_file(),
    reason="MMSA_DATA holds no mosei/label.csv",
)
def test_the_real_table_holds_what_was_published() -> None:
    corpus = load_corpus("mosei")
    assert [len(corpus.split(split)) for split in ("train", "valid", "test")] == [16326, 1871, 4659]
    assert corpus.note == ""
    # The annotation is the label's sign.
    signs = {"Negative": -1, "Neutral": 0, "Positive": 1}
    for clip in corpus.clips:
        label = float(clip.labels["sentiment"])
        assert signs[clip.attributes["annotation"]] == (label > 0) - (label < 0)
