from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from mmsa.config import TrainConfig
from mmsa.corpora import load_corpus
from mmsa.corpora.sims import load_sims, load_sims_en, load_simsv2
from mmsa.errors import UsageError
from mmsa.runs import open_workshop
from mmsa.tasks import Regression

HEADER = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\n"
CHINESE = HEADER + "video_0001,0001,这是一个例句,0.6,0.8,-0.2,0.4,Positive,train\n"
ENGLISH = HEADER + "".join(
    f"video_000{i},0001,This is an example,0.6,0.8,-0.2,0.4,Positive,{mode}\n"
    for i, mode in enumerate(["train", "valid", "test"])
)
NAMES = ["sentiment", "sentiment_text", "sentiment_audio", "sentiment_vision"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "label.csv").write_text(CHINESE, encoding="utf-8")
    (tmp_path / "label_en.csv").write_text(ENGLISH, encoding="utf-8")
    (tmp_path / "Raw" / "video_0001").mkdir(parents=True)
    (tmp_path / "Raw" / "video_0001" / "0001.mp4").touch()
    return tmp_path


def test_the_layout_is_read_with_unimodal_labels(root: Path) -> None:
    corpus = load_sims(root)
    assert corpus.name == "sims"
    assert corpus.tasks == tuple(Regression(name, -1, 1, "sims") for name in NAMES)
    (clip,) = corpus.clips
    assert (clip.id, clip.transcript) == ("video_0001$_$0001", "这是一个例句")
    assert clip.labels == dict(zip(NAMES, [0.6, 0.8, -0.2, 0.4], strict=True))
    assert clip.media == root / "Raw" / "video_0001" / "0001.mp4"


def test_the_translation_is_a_corpus_of_its_own(root: Path) -> None:
    corpus = load_sims_en(root)
    assert corpus.name == "sims-en"
    assert [clip.transcript for clip in corpus.clips] == ["This is an example"] * 3


def test_version_2_may_call_its_table_meta(root: Path) -> None:
    (root / "meta.csv").write_text(ENGLISH, encoding="utf-8")
    assert load_simsv2(root).clips[0].transcript == "这是一个例句"
    assert {task.to_dict()["metrics"] for task in load_simsv2(root).tasks} == {"simsv2"}
    (root / "label.csv").unlink()
    assert load_simsv2(root).clips[0].transcript == "This is an example"
    (root / "meta.csv").unlink()
    with pytest.raises(UsageError, match=r"label\.csv not found"):
        load_simsv2(root)


def test_only_sentiment_is_learned_unless_others_are_asked_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSA_CACHE", str(tmp_path / "cache"))
    config = TrainConfig(corpus="sims-en", root=root, modalities=("text",), jobs=1)
    assert [task.name for task in open_workshop(config).tasks] == ["sentiment"]
    asked = config.model_copy(update={"tasks": ("sentiment_audio", "sentiment")})
    assert [task.name for task in open_workshop(asked).tasks] == ["sentiment_audio", "sentiment"]


real = Path(os.environ.get("MMSA_DATA", "/nowhere")) / "sims"


@pytest.mark.skipif(not real.is_dir(), reason="MMSA_DATA holds no sims")
@pytest.mark.parametrize(("name", "table"), [("sims", "label.csv"), ("sims-en", "label_en.csv")])
def test_the_real_tables_hold_what_was_published(name: str, table: str) -> None:
    corpus = load_corpus(name)
    assert [len(corpus.split(split)) for split in ("train", "valid", "test")] == [1368, 456, 457]
    with (real / table).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    videos = {split: {row["video_id"] for row in rows if row["mode"] == split} for split in ("train", "test")}
    assert videos["test"] <= videos["train"]
    count = len(videos["test"])
    assert corpus.note == f"Split by clip, not by video: {count} of {count} test videos also have clips in train."
    assert [clip.transcript for clip in corpus.clips] == [row["text"].strip() for row in rows]
