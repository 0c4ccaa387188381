from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.mosei import EMOTIONS, load_mosei
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


def test_emotions_are_a_task_where_the_table_has_them(tmp_path: Path) -> None:
    header, row, *_ = TABLE.splitlines()
    emotions = "happy,sad,anger,surprise,disgust,fear"
    (tmp_path / "label.csv").write_text(f"{header},{emotions}\n{row},0,0.6666,0,0,0,1\n", encoding="utf-8")
    corpus = load_mosei(tmp_path)
    assert (corpus.tasks[1], corpus.default_tasks) == (EMOTIONS, ("sentiment",))
    assert corpus.clips[0].labels == {"sentiment": 0.0, "emotions": ("sad", "fear")}


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
        label = corpus.tasks[0].encode(clip.labels["sentiment"])
        assert isinstance(label, float)
        assert signs[clip.attributes["annotation"]] == (label > 0) - (label < 0)
