"""Twitter sarcasm on a made copy of its layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.twitter_sarcasm import LEAKS
from mmsa.errors import UsageError

TEXTS = {
    "train.txt": ["['11', 'what a day # lol', 1]", '["12", "it \'s warm", 0]'],
    "valid2.txt": ["['21', 'so kind of you <user>', 1, 0]"],
    "test2.txt": ["['31', 'a dog', 0, 0]", "['32', 'great , rain', 0, 1]"],
}


def write(root: Path, inner: str = "text", **changes: list[str]) -> Path:
    (root / inner).mkdir(parents=True, exist_ok=True)
    for name, lines in {**TEXTS, **{f"{key}.txt": value for key, value in changes.items()}}.items():
        (root / inner / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(("inner", "images"), [("text", "dataset_image"), ("text", "text/images"), (".", "image")])
def test_layout(tmp_path: Path, inner: str, images: str) -> None:
    write(tmp_path, inner)
    (tmp_path / images).mkdir()
    (tmp_path / images / "12.jpg").write_bytes(b"x")
    corpus = load_corpus("twitter_sarcasm", tmp_path)
    assert [(clip.id, clip.split, clip.labels["sarcasm"], clip.transcript) for clip in corpus.clips] == [
        ("11", "train", "sarcastic", "what a day # lol"),
        ("12", "train", "not sarcastic", "it 's warm"),
        ("21", "valid", "not sarcastic", "so kind of you <user>"),
        ("31", "test", "not sarcastic", "a dog"),
        ("32", "test", "sarcastic", "great , rain"),
    ]
    assert [clip.media for clip in corpus.clips] == [None, tmp_path / images / "12.jpg", None, None, None]
    assert corpus.clips[2].attributes == {"hashtag": "sarcastic"}
    assert corpus.clips[0].attributes == {}


@pytest.mark.parametrize("word", sorted(LEAKS))
def test_posts_that_tell_their_label_are_left_out(tmp_path: Path, word: str) -> None:
    """As a word of its own; as part of another (`# sarcasmish`) it stays."""
    told = [f"['1', 'so # {word} today', 1]", f"['2', 'so {word}ish', 1]", "['3', 'plain', 0]"]
    write(tmp_path, train=told)
    ids = [clip.id for clip in load_corpus("twitter_sarcasm", tmp_path).split("train")]
    assert ids == ["2", "3"]


@pytest.mark.parametrize(
    "line",
    [
        "['1', 'one label', 1]",
        "['1', 'three', 1, 0, 1]",
        "['1', 'range', 1, 2]",
        "['1', 'a boolean', True, False]",
        "[1, 'a number', 1, 0]",
        "['../1', 'a path', 1, 0]",
        "('1', 'a tuple', 1, 0)",
        "['1', 'not closed, 1, 0]",
        "[__import__('os').getcwd(), 'runs', 1, 0]",
        "[" * 5000,
    ],
)
def test_lines_that_cannot_be(tmp_path: Path, line: str) -> None:
    write(tmp_path, valid2=[line])
    with pytest.raises(UsageError, match=r"valid2.txt, line 1: expected \['id', 'text', 0 or 1, 0 or 1\], not "):
        load_corpus("twitter_sarcasm", tmp_path)


def test_files_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not the layout of twitter_sarcasm: no valid2.txt in .*text"):
        load_corpus("twitter_sarcasm", tmp_path)
    (write(tmp_path) / "text" / "test2.txt").unlink()
    with pytest.raises(UsageError, match=r"test2.txt not found"):
        load_corpus("twitter_sarcasm", tmp_path)
