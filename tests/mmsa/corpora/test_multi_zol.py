"""Multi-ZOL on a made copy of its layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.check import check_corpus
from mmsa.corpora.multi_zol import SCORES
from mmsa.errors import UsageError

REVIEW = "屏幕 清晰 电池 很好 拍照 不错 性价比 高 喜欢"
TRAIN = [REVIEW, "['a.jpg', 'b.png', 'gone.jpg', 'c.jpg', 'd.jpg', 'e.jpg', 'f.jpg']", "性价比", "10.0"]
DEV = ["慢 卡", "['gone.jpg']", "电池续航", "2.0"]
TEST = [REVIEW, "['a.jpg', 'b.png']", "屏幕效果", "6.0"]


def write(folder: Path, train: list[str] = TRAIN, end: str = "\n") -> Path:
    folder.mkdir(parents=True)
    for name, lines in (("Train", train), ("Dev", DEV), ("Test", TEST)):
        (folder / f"zol_{name}_jieba.txt").write_text("\n".join(lines) + end, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("inner", "images"), [(".", "img"), ("datasets/zolDataset", "multidata_zol/img"), ("zolDataset", "zolDataset/img")]
)
def test_layout(tmp_path: Path, inner: str, images: str) -> None:
    root = tmp_path / "zol"
    write(root / inner, end="\n\n\n")
    (root / images).mkdir(parents=True)
    for name in ("a.jpg", "b.png", "c.jpg", "d.jpg", "e.jpg", "f.jpg"):
        (root / images / name).write_bytes(b"x")
    corpus = load_corpus("multi_zol", root)
    train, valid, test = corpus.clips
    assert [file.name for file in train.files] == ["a.jpg", "b.png", "c.jpg", "d.jpg", "e.jpg"]
    assert valid.files == ()
    assert test.files == (root / images / "a.jpg", root / images / "b.png")
    assert [clip.labels for clip in corpus.clips] == [
        {"sentiment": "10", "score": 10.0},
        {"sentiment": "2", "score": 2.0},
        {"sentiment": "6", "score": 6.0},
    ]
    assert train.transcript == f"性价比： {REVIEW}"
    assert train.attributes == {"aspect": "性价比", "aspect_in_english": "value for money"}
    assert corpus.default_tasks == ("sentiment",)


def test_what_the_official_split_shares_is_a_note(tmp_path: Path) -> None:
    root = write(tmp_path / "zol")
    (root / "img").mkdir()
    (root / "img" / "a.jpg").write_bytes(b"x")
    report = check_corpus(load_corpus("multi_zol", root))
    shared = [f for f in report.findings if f.kind == "media" and "more than one split" in f.message]
    assert [f.severity for f in shared] == ["note"]
    assert "other aspects of the test reviews" in load_corpus("multi_zol", root).note


def test_an_empty_review_is_a_sample(tmp_path: Path) -> None:
    root = write(tmp_path / "zol", train=["", *TRAIN[1:], *TRAIN])
    assert [clip.transcript for clip in load_corpus("multi_zol", root).split("train")] == [
        "性价比： ",
        f"性价比： {REVIEW}",
    ]


@pytest.mark.parametrize("score", SCORES)
def test_scores(tmp_path: Path, score: str) -> None:
    root = write(tmp_path / "zol", train=[*TRAIN[:3], f"{score}.0"])
    assert load_corpus("multi_zol", root).clips[0].labels == {"sentiment": score, "score": float(score)}


@pytest.mark.parametrize(
    ("place", "line", "message"),
    [
        (1, "['a.jpg'", r"line 2: expected a list of image files"),
        (1, "['../a.jpg']", r"line 2: expected a list of image files"),
        (1, "{'a.jpg': 1}", r"line 2: expected a list of image files"),
        (2, "价格", r"line 3: the aspect must be one of 性价比, .* not '价格'"),
        (3, "7.0", r"line 4: the score must be one of 1, 2, 3, 4, 5, 6, 8, 10, not '7.0'"),
        (3, "2.5", r"line 4: the score must be one of"),
    ],
)
def test_samples_that_cannot_be(tmp_path: Path, place: int, line: str, message: str) -> None:
    lines = [*TRAIN]
    lines[place] = line
    with pytest.raises(UsageError, match=message):
        load_corpus("multi_zol", write(tmp_path / "zol", train=lines))


def test_a_file_that_ends_within_a_sample(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 7: the file ends within a sample, which has four lines"):
        load_corpus("multi_zol", write(tmp_path / "zol", train=[*TRAIN, *TRAIN[:3]]))
