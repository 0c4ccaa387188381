"""Corpora of still images, from the adapter through the feature store to a model and a score."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extractors.vision.colour import Colour, describe
from mmsa.corpora import Clip, Corpus, load_corpus
from mmsa.corpora.check import check_corpus
from mmsa.features import load_features, store_folder
from mmsa.features.choose import modalities_of
from mmsa.tasks import Classification

Mmsa = Callable[..., tuple[int, str, str]]
COLOURS = {"positive": (250, 190, 60), "neutral": (128, 128, 128), "negative": (20, 30, 90)}
WORDS = {"positive": "a lovely day", "neutral": "the table", "negative": "an awful mess"}


def paint(path: Path, colour: tuple[int, int, int], noise: int = 0) -> Path:
    """A picture of 40 × 30 in one colour, or with noise of that deviation."""
    rng = np.random.default_rng(sum(map(ord, path.name)))
    pixels = np.clip(np.array(colour) + noise * rng.standard_normal((30, 40, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def seen(*colours: tuple[int, int, int]) -> np.ndarray:
    return describe([np.full((30, 40, 3), colour, np.uint8) for colour in colours])


def test_a_table_of_images(tmp_path: Path) -> None:
    """The media column names pictures; one is text only. There is no sound to look for."""
    for name, colour in COLOURS.items():
        paint(tmp_path / f"{name}.png", colour)
    rows = [f"{name},{split},{name},{name}.png,{WORDS[name]}" for name, split in
            zip(COLOURS, ("train", "valid", "test"), strict=True)]  # fmt: skip
    (tmp_path / "posts.csv").write_text(
        "\n".join(["id,split,mood,media,transcript", *rows, "words,train,neutral,,only words"]), encoding="utf-8"
    )
    (tmp_path / "posts.yaml").write_text(
        "tasks: {mood: {kind: classification, classes: [positive, neutral, negative]}}"
    )
    corpus = load_corpus(str(tmp_path / "posts.csv"))
    assert modalities_of(corpus) == ("text", "vision")
    table = load_features(corpus, {"vision": Colour()}, jobs=1)["vision"]
    assert np.array_equal(table.values, seen(*COLOURS.values()))
    assert table.missing == {"words": "no media file"}


def post(folder: Path, number: int, split: str, *colours: str) -> Clip:
    files = [paint(folder / f"{number}-{k}.png", COLOURS[name]) for k, name in enumerate(colours)]
    return Clip(str(number), split, {"mood": colours[0]}, files[0], "words", more_media=tuple(files[1:]))  # type: ignore[arg-type]


@pytest.fixture
def posts(tmp_path: Path) -> Corpus:
    """Three posts: two pictures, one, three."""
    clips = (
        post(tmp_path, 0, "train", "positive", "negative"),
        post(tmp_path, 1, "valid", "neutral"),
        post(tmp_path, 2, "test", "negative", "neutral", "positive"),
    )
    return Corpus("posts", clips, (Classification("mood", tuple(COLOURS)),))


def test_several_images_are_several_steps(posts: Corpus) -> None:
    table = load_features(posts, {"vision": Colour()}, jobs=1)["vision"]
    assert table.offsets.tolist() == [0, 2, 3, 6]
    order = ("positive", "negative", "neutral", "negative", "neutral", "positive")
    assert np.array_equal(table.values, seen(*(COLOURS[name] for name in order)))
    assert table.sequence(2).times.tolist() == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]


def test_every_image_decides_where_features_lie(posts: Corpus) -> None:
    before = store_folder(posts, Colour())
    fewer = replace(posts.clips[2], more_media=posts.clips[2].more_media[:1])
    assert store_folder(replace(posts, clips=(*posts.clips[:2], fewer)), Colour()) != before
    swapped = replace(posts.clips[2], more_media=posts.clips[2].more_media[::-1])
    assert store_folder(replace(posts, clips=(*posts.clips[:2], swapped)), Colour()) != before
    paint(posts.clips[2].more_media[1], (1, 2, 3))
    assert store_folder(posts, Colour()) != before


def test_check_looks_at_every_image(posts: Corpus) -> None:
    posts.clips[0].more_media[0].unlink()
    posts.clips[2].more_media[1].write_bytes(b"")
    found = [(f.clip, f.message.split(":")[0]) for f in check_corpus(posts).findings if f.kind == "media"]
    assert found == [("0", "its media file is not there"), ("2", "its media file is empty")]


def test_what_may_sound() -> None:
    clip = Clip("a", "train", {})
    assert not clip.may_sound
    assert clip.files == ()
    assert not replace(clip, media=Path("a.JPG")).may_sound
    assert replace(clip, media=Path("a.mp4")).may_sound
    assert replace(clip, media=Path("a.jpg"), more_media=(Path("b.jpg"),)).files == (Path("a.jpg"), Path("b.jpg"))


def write_mvsa(root: Path, posts: int) -> Path:
    """MVSA-Single whose words and pictures both tell the label."""
    (root / "data").mkdir(parents=True)
    lines = ["ID\ttext,image"]
    for k in range(posts):
        label = list(COLOURS)[k % 3]
        paint(root / "data" / f"{k}.jpg", COLOURS[label], noise=25)
        (root / "data" / f"{k}.txt").write_text(f"{WORDS[label]} {k}", encoding="utf-8")
        lines.append(f"{k}\t{label},{label}")
    (root / "labelResultAll.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.mark.slow
@pytest.mark.usefixtures("workspace")
def test_a_model_of_posts_is_trained_and_scores_a_photo(run_mmsa: Mmsa, tmp_path: Path) -> None:
    """The same words under two pictures: the picture decides, and the score says that there is no sound to miss."""
    root = write_mvsa(tmp_path / "MVSA_Single", 60)
    code, out, err = run_mmsa(
        "train", "--corpus", "mvsa-single", "--root", root, "--set", "extractors.vision.name=vision.colour",
        "--set", "epochs=12", "--set", "learning_rate=0.01", "--set", "jobs=1", "--set", "device=cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "no official split" in " ".join(out.split())
    bright = paint(tmp_path / "bright.jpg", COLOURS["positive"], noise=25)
    dark = paint(tmp_path / "dark.jpg", COLOURS["negative"], noise=25)
    labels = []
    for photo in (bright, dark):
        code, out, err = run_mmsa("score", "latest", photo, "--text", "the table", "--json")
        assert code == 0, err
        row = json.loads(out.splitlines()[0])
        (window,) = row["windows"]
        assert set(window["modalities"]) == {"text", "vision"}
        labels.append(window["modalities"]["vision"]["scores"]["sentiment"]["label"])
    assert labels == ["positive", "negative"]
    (tmp_path / "cut.jpg").write_bytes((root / "data" / "0.jpg").read_bytes()[:400])
    code, _, err = run_mmsa("score", "latest", tmp_path / "cut.jpg")
    assert code == 1
    assert "cannot be decoded" in err
