"""Yelp on a made copy of VistaNet's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.yelp import CITIES
from mmsa.errors import UsageError


def review(key: str, rating: float = 4, photos: tuple[str, ...] = ("ab1",), **changes: Any) -> dict[str, Any]:
    text = "good food .|||nice people ! "
    return {"_id": key, "Text": text, "Rating": rating, "Photos": [{"_id": name} for name in photos], **changes}


def write(root: Path, **changes: list[Any]) -> Path:
    (root / "test").mkdir(parents=True)
    files: dict[str, list[Any]] = {"train": [review("t1", 1, ("ab1", "cd2", "gone", "ef3", "gh4"))]}
    files |= {"valid": [review("v1", 5.0, ())], **{f"test/{city}_test": [review(f"x-{city}")] for city in CITIES}}
    for name, rows in {**files, **changes}.items():
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (root / f"{name}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("inner", [".", "data"])
def test_layout(tmp_path: Path, inner: str) -> None:
    folder = write(tmp_path / "yelp" / inner)
    for path in ("ab/ab1", "cd2", "ef/ef3", "gh/gh4"):
        (folder / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / f"{path}.jpg").write_bytes(b"x")
    corpus = load_corpus("yelp", tmp_path / "yelp")
    train, valid, *test = corpus.clips
    assert [str(file.relative_to(folder / "photos")) for file in train.files] == ["ab/ab1.jpg", "cd2.jpg", "ef/ef3.jpg"]
    assert valid.files == ()
    assert train.labels == {"rating": "1", "stars": 1.0}
    assert valid.labels == {"rating": "5", "stars": 5.0}
    assert train.transcript == "good food . nice people !"
    assert [clip.attributes for clip in test] == [{"city": city} for city in CITIES]
    assert {clip.split for clip in test} == {"test"}
    assert corpus.default_tasks == ("rating",)


def test_without_photos_it_is_text(tmp_path: Path) -> None:
    assert all(clip.files == () for clip in load_corpus("yelp", write(tmp_path / "yelp")).clips)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"train.json, line 1: is not JSON"),
        ("[]", r"line 1: must be an object, not '\[\]'"),
        (review("a", 6), r"line 1: Rating must be a whole number from 1 to 5, not 6"),
        (review("a", 3.5), r"line 1: Rating must be a whole number from 1 to 5, not 3.5"),
        (review("a", True), r"line 1: Rating must be"),
        (review("a", Text=None), r"line 1: Text must be text, not None"),
        (review("a", photos=("../a",)), r"line 1: Photos must be a list of objects with an _id"),
        (review("a", Photos=["a"]), r"line 1: Photos must be a list of objects with an _id"),
    ],
)
def test_lines_that_cannot_be(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_corpus("yelp", write(tmp_path / "yelp", train=[row]))


def test_a_city_that_is_missing(tmp_path: Path) -> None:
    (write(tmp_path / "yelp") / "test" / "Boston_test.json").unlink()
    with pytest.raises(UsageError, match=r"Boston_test.json not found"):
        load_corpus("yelp", tmp_path / "yelp")
