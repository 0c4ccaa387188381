"""Twitter-2015 and -2017 on made copies of TomBERT's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.check import check_corpus
from mmsa.errors import UsageError

HEADER = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String"
TEST_HEADER = "index\t#1 ImageID\t#2 String\t#2 String"
ROWS = {
    "train.tsv": [HEADER, '1\t0\ta.jpg\tRT @ x : " $T$ in Lyon !\tAnn', "2\t1\ta.jpg\tRT @ x : Ann in $T$ !\tLyon"],
    "dev.tsv": [HEADER, "1\t2\tb.jpg\t$T$\tBob"],
    "test.tsv": [TEST_HEADER, "1\t1\tgone.jpg\t$T$ , then $T$\tEve\r"],
}


def write(folder: Path, **changes: list[str]) -> Path:
    folder.mkdir(parents=True)
    for name, lines in {**ROWS, **{f"{key}.tsv": value for key, value in changes.items()}}.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return folder


@pytest.mark.parametrize(
    ("name", "inner", "images"),
    [
        ("twitter2015", "twitter2015", "twitter2015_images"),
        ("twitter2017", "twitter", "twitter2017_images"),
        ("twitter2017", "twitter2017", "twitter2017/images"),
    ],
)
def test_layout(tmp_path: Path, name: str, inner: str, images: str) -> None:
    folder = write(tmp_path / inner)
    pictures = tmp_path / images
    pictures.mkdir()
    for key in "ab":
        (pictures / f"{key}.jpg").write_bytes(b"x")
    for root in (tmp_path, folder):
        corpus = load_corpus(name, root)
        assert [(clip.id, clip.split, clip.labels["sentiment"], clip.transcript) for clip in corpus.clips] == [
            ("train_1", "train", "negative", 'Ann: RT @ x : " Ann in Lyon !'),
            ("train_2", "train", "neutral", "Lyon: RT @ x : Ann in Lyon !"),
            ("valid_1", "valid", "positive", "Bob: Bob"),
            ("test_1", "test", "neutral", "Eve: Eve , then Eve"),
        ]
        assert [clip.media for clip in corpus.clips] == [pictures / f"{key}.jpg" for key in "aab"] + [None]
        assert corpus.clips[1].attributes == {"aspect": "Lyon", "image": "a.jpg"}


def test_an_image_may_be_asked_about_again_and_again(tmp_path: Path) -> None:
    write(tmp_path / "twitter2015")
    (tmp_path / "twitter2015_images").mkdir()
    (tmp_path / "twitter2015_images" / "a.jpg").write_bytes(b"x")
    report = check_corpus(load_corpus("twitter2015", tmp_path))
    assert [finding for finding in report.findings if finding.kind == "duplicate"] == []
    assert [f.message for f in report.findings if f.kind == "count"] == [
        "2 / 1 / 1 clips in train / valid / test; the literature has 3179 / 1122 / 1037"
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t0\ta.jpg\t$T$ here", r"dev.tsv, line 2: expected index, label, image, tweet, aspect .* not 4 cells"),
        ("1\t-1\ta.jpg\t$T$ here\tAnn", r"line 2: the label must be one of 0, 1, 2, not '-1'"),
        ("1\t0\t../a.jpg\t$T$\tAnn", r"line 2: the image must be the name of a file, not '../a.jpg'"),
    ],
)
def test_rows_that_cannot_be(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path / "t", dev=[HEADER, line])
    with pytest.raises(UsageError, match=message):
        load_corpus("twitter2015", tmp_path / "t")


def test_a_row_twice(tmp_path: Path) -> None:
    write(tmp_path / "t", dev=[HEADER, ROWS["dev.tsv"][1], ROWS["dev.tsv"][1]])
    with pytest.raises(UsageError, match=r"are not those of twitter2015: .*given twice: valid_1"):
        load_corpus("twitter2015", tmp_path / "t")
