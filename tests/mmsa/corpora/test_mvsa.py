"""MVSA on a made copy of its layout; the rule for labels as Xu and Mao's table has it."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from mmsa.corpora import load_corpus
from mmsa.corpora.check import check
from mmsa.corpora.mvsa import Judged, combine, draw_splits, majority
from mmsa.errors import UsageError

ROWS = {
    1: "positive,positive",
    2: "positive,neutral",
    3: "neutral,negative",
    4: "neutral,neutral",
    5: "positive,negative",
    6: "negative,positive",
}
EXPECTED = {"1": "positive", "2": "positive", "3": "negative", "4": "neutral"}


def write(folder: Path, rows: dict[int, str], header: str = "ID\ttext,image") -> Path:
    """The labels and, for each post but number 4, an image and a text."""
    (folder / "data").mkdir(parents=True)
    lines = [header, *(f"{key}\t{row}" for key, row in rows.items())]
    (folder / "labelResultAll.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for key in rows:
        if key != 4:
            Image.new("RGB", (8, 8), (key, 0, 0)).save(folder / "data" / f"{key}.jpg")
        (folder / "data" / f"{key}.txt").write_text(f"post number {key}\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("place", [".", "MVSA_Single"])
def test_single(tmp_path: Path, place: str) -> None:
    folder = write(tmp_path / "root" / place, ROWS)
    corpus = load_corpus("mvsa-single", tmp_path / "root")
    assert {clip.id: clip.labels["sentiment"] for clip in corpus.clips} == EXPECTED
    by_id = {clip.id: clip for clip in corpus.clips}
    assert by_id["2"].labels == {"sentiment": "positive", "sentiment_text": "positive", "sentiment_vision": "neutral"}
    assert by_id["2"].media == folder / "data" / "2.jpg"
    assert by_id["4"].media is None
    assert by_id["3"].transcript == "post number 3"
    assert corpus.default_tasks == ("sentiment",)
    assert "no official split" in corpus.note


def test_the_rule_for_labels() -> None:
    """Xu and Mao's table: how many of the two labels are positive, neutral and negative → the post's."""
    table = {(2, 0, 0): "positive", (1, 1, 0): "positive", (0, 1, 1): "negative", (0, 0, 2): "negative",
             (0, 2, 0): "neutral", (1, 0, 1): None}  # fmt: skip
    names = ("positive", "neutral", "negative")
    for text, image in product(names, names):
        counts = tuple([text, image].count(name) for name in names)
        assert combine(text, image) == table[counts]


def test_three_annotators(tmp_path: Path) -> None:
    """Two of three decide for text and image apart; without two in both, the post is left out."""
    rows = {
        1: "positive,neutral\tpositive,neutral\tnegative,negative",  # positive and neutral
        2: "positive,positive\tneutral,positive\tnegative,positive",  # no majority on the text
        3: "neutral,positive\tneutral,neutral\tneutral,negative",  # none on the image
        5: "negative,neutral\tneutral,negative\tnegative,negative",  # negative and negative
        6: "positive,negative\tpositive,negative\tpositive,positive",  # they contradict each other
        7: "neutral,neutral\tneutral,neutral\tpositive,positive",
    }
    write(tmp_path, rows, "ID\ttext,image\ttext,image\ttext,image")
    corpus = load_corpus("mvsa-multiple", tmp_path)
    labels = {clip.id: tuple(clip.labels.values()) for clip in corpus.clips}
    assert labels == {
        "1": ("positive", "positive", "neutral"),
        "5": ("negative", "negative", "negative"),
        "7": ("neutral", "neutral", "neutral"),
    }
    assert majority(["a", "b", "c"]) is None
    with pytest.raises(UsageError, match=r"line 2: 3 judgements .*must be 1 in mvsa-single or 3 in mvsa-multiple"):
        load_corpus("mvsa-single", tmp_path)


def test_texts_of_mixed_encodings(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    data = tmp_path / "data"
    (data / "1.txt").write_bytes("it’s \U0001f600".encode())
    (data / "2.txt").write_bytes("it’s café".encode("cp1252"))
    (data / "3.txt").write_bytes(b"\x81caf\xe9 ")  # 0x81 means nothing in Windows-1252
    (data / "4.txt").unlink()
    texts = {clip.id: clip.transcript for clip in load_corpus("mvsa-single", tmp_path).clips}
    assert texts == {"1": "it’s \U0001f600", "2": "it’s café", "3": "\x81café", "4": None}


def test_the_drawn_split_keeps_classes_and_knows_no_order() -> None:
    labels = ["negative"] * 60 + ["neutral"] * 30 + ["positive"] * 110
    posts = [Judged(str(k), label, label, label) for k, label in enumerate(labels)]
    splits = draw_splits(posts)
    assert splits == draw_splits(posts[::-1])
    counts = Counter((labels[int(key)], split) for key, split in splits.items())
    for label, (train, valid, test) in {
        "negative": (48, 6, 6),
        "neutral": (24, 3, 3),
        "positive": (88, 11, 11),
    }.items():
        assert [counts[label, split] for split in ("train", "valid", "test")] == [train, valid, test]
    # A post's split depends on its own class only by the others of it: one more neutral post moves no positive one.
    more = draw_splits([*posts, Judged("new", "neutral", "neutral", "neutral")])
    assert all(more[post.id] == splits[post.id] for post in posts if post.sentiment != "neutral")


def test_a_split_of_the_users_own(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    own = {"1": "test", "2": "train", "3": "valid", "4": "train", "5": "train"}
    (tmp_path / "splits.csv").write_text("id,split\n" + "".join(f"{k},{v}\n" for k, v in own.items()))
    corpus = load_corpus("mvsa-single", tmp_path)
    assert {clip.id: clip.split for clip in corpus.clips} == {key: own[key] for key in EXPECTED}
    assert corpus.note == ""


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,train", "2,train", "3,test"], r"splits.csv gives no split for 1 posts, such as 4"),
        (["1,train", "9,test"], r"line 3, column id: '9' is not in labelResultAll.txt"),
        (["1,training"], r"line 2, column split: must be one of train, valid, test, not 'training'"),
        (["1,train", "1,test"], r"line 3, column id: '1' is given twice"),
    ],
)
def test_splits_that_do_not_fit(tmp_path: Path, lines: list[str], message: str) -> None:
    write(tmp_path, ROWS)
    (tmp_path / "splits.csv").write_text("\n".join(["id,split", *lines]) + "\n")
    with pytest.raises(UsageError, match=message):
        load_corpus("mvsa-single", tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("positive", r"line 7: expected text,image, each one of negative, neutral, positive, not 'positive'"),
        ("positive,happy", r"line 7: expected text,image"),
        ("", r"line 7: 0 judgements"),
    ],
)
def test_labels_that_cannot_be(tmp_path: Path, row: str, message: str) -> None:
    write(tmp_path, {**ROWS, 6: row})
    with pytest.raises(UsageError, match=message):
        load_corpus("mvsa-single", tmp_path)


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not the layout of mvsa-single: no labelResultAll.txt in .*MVSA_Single"):
        load_corpus("mvsa-single", tmp_path)


def test_a_folder_is_recognised_and_its_size_compared(tmp_path: Path) -> None:
    report = check(str(write(tmp_path / "x", ROWS)))
    assert report.name == "mvsa-single"
    assert [f.message for f in report.findings if f.kind == "count"] == ["4 clips; the literature has 4511"]
    assert report.media == 3
