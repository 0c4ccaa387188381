"""MVSA-Single and MVSA-Multiple: sentiment of tweets with an image each.

Niu et al., "Sentiment Analysis on Multi-View Social Data", MultiMedia Modeling 2016. Annotators judged text and image
apart: one per post in MVSA-Single, three in MVSA-Multiple. What nearly all papers use are the posts and labels that Xu
and Mao, "MultiSentiNet: A Deep Semantic Network for Multimodal Sentiment Analysis", CIKM 2017, made of these:

- of three annotators, the label of text or image is what at least two say; a post without such a majority in both is
  left out;
- text and image agree: that is the label; one is neutral: the other's is; one is positive and the other negative: the
  post is left out.

The labels of text and image alone are the tasks `sentiment_text` and `sentiment_vision`, learned only when asked for.

There is no official split, and papers rarely say theirs. A `splits.csv` in the folder (columns `id`, `split`) is
followed; without one, 8 : 1 : 1 of each class are drawn by the ids' SHA-256, the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmsa.corpora.clip import SPLITS, Clip, Corpus, Split
from mmsa.corpora.lines import Line, find_folder, read_lines
from mmsa.corpora.rows import read_rows
from mmsa.errors import UsageError
from mmsa.tasks import Classification

LABELS = "labelResultAll.txt"
OWN_SPLITS = "splits.csv"
CLASSES = ("negative", "neutral", "positive")
TASKS = tuple(Classification(name, CLASSES) for name in ("sentiment", "sentiment_text", "sentiment_vision"))
SHARES = (0.8, 0.1)
"""Of each class in train and valid; the rest is test."""

NOTE = (
    "MVSA has no official split: this one is 8 : 1 : 1 of each class by a hash of the ids. Figures of papers are on "
    "splits of their own; give theirs as splits.csv to compare."
)
PLACES = {"mvsa-single": (".", "MVSA_Single"), "mvsa-multiple": (".", "MVSA", "MVSA_Multiple")}
"""Where the labels lie under the root: in it, or in the folder that the archive unpacks to."""

ANNOTATORS = {"mvsa-single": 1, "mvsa-multiple": 3}


@dataclass(frozen=True)
class Judged:
    """A post's labels.

    Attributes:
        id: number of its files.
        text: sentiment of the text alone.
        image: sentiment of the image alone.
        sentiment: of the post.
    """

    id: str
    text: str
    image: str
    sentiment: str


def load_mvsa_single(root: Path) -> Corpus:
    """Read MVSA-Single: `labelResultAll.txt` (`ID`, tab, `text,image`) and `data/<ID>.txt`, `data/<ID>.jpg`.

    4511 posts remain in the literature. A post without an image is text only, one without a text file image only. The
    texts are of mixed encodings: those that are not UTF-8 are read as Windows-1252, and bytes that it leaves undefined
    as Latin-1, which loses no character of the others.

    Raises:
        UsageError: the labels are missing, or hold what they cannot.
    """
    return _load("mvsa-single", root)


def load_mvsa_multiple(root: Path) -> Corpus:
    """Read MVSA-Multiple: as MVSA-Single, with three times `text,image` a row; 17024 posts remain in the literature.

    Raises:
        UsageError: the labels are missing, or hold what they cannot.
    """
    return _load("mvsa-multiple", root)


def _load(name: str, root: Path) -> Corpus:
    folder = find_folder(root, PLACES[name], LABELS, name)
    judged = list(_judgements(folder / LABELS, ANNOTATORS[name]))
    kept = [post for post in judged if isinstance(post, Judged)]
    own = folder / OWN_SPLITS
    if own.is_file():
        splits = _read_splits(own, kept, {post if isinstance(post, str) else post.id for post in judged})
    else:
        splits = draw_splits(kept)
    clips = tuple(_clip(folder / "data", post, splits[post.id]) for post in kept)
    try:
        return Corpus(name, clips, TASKS, "" if own.is_file() else NOTE, default_tasks=("sentiment",))
    except ValueError as error:
        raise UsageError(f"{folder} is not {name}: {error}") from None


def combine(text: str, image: str) -> str | None:
    """The post's label from those of its text and its image; None where they contradict each other.

    Example:
        >>> combine("neutral", "negative"), combine("positive", "negative")
        ('negative', None)
    """
    if text == image or image == "neutral":
        return text
    return image if text == "neutral" else None


def majority(labels: Sequence[str]) -> str | None:
    """What more than half say, or None."""
    label, count = Counter(labels).most_common(1)[0]
    return label if count > len(labels) / 2 else None


def draw_splits(posts: Sequence[Judged]) -> dict[str, Split]:
    """8 : 1 : 1 of each class, in the order of the ids' SHA-256: neither the file's order nor a seed matters."""
    splits: dict[str, Split] = {}
    for label in CLASSES:
        own = [post.id for post in posts if post.sentiment == label]
        own.sort(key=lambda key: hashlib.sha256(key.encode()).hexdigest())
        train = round(SHARES[0] * len(own))
        valid = train + round(SHARES[1] * len(own))
        for place, key in enumerate(own):
            splits[key] = "train" if place < train else "valid" if place < valid else "test"
    return splits


def _judgements(path: Path, annotators: int) -> Iterator[Judged | str]:
    """Each post with its labels, or the id of one that is left out."""
    for line in read_lines(path):
        cells = [cell.strip() for cell in line.text.split("\t")]
        if line.number == 1 and cells[0].upper() == "ID":
            continue
        pairs = [_pair(line, cell) for cell in cells[1:] if cell]
        if len(pairs) != annotators:
            names = " or ".join(f"{count} in {name}" for name, count in ANNOTATORS.items())
            raise line.error(f"{len(pairs)} judgements of text,image, but there must be {names}: which of them is it?")
        text, image = (majority([pair[part] for pair in pairs]) for part in (0, 1))
        sentiment = combine(text, image) if text and image else None
        yield Judged(cells[0], text, image, sentiment) if text and image and sentiment else cells[0]


def _pair(line: Line, cell: str) -> tuple[str, str]:
    labels = [label.strip() for label in cell.split(",")]
    if len(labels) != 2 or not set(labels) <= set(CLASSES):
        raise line.error(f"expected text,image, each one of {', '.join(CLASSES)}, not {cell!r}")
    return labels[0], labels[1]


def _read_splits(path: Path, kept: Sequence[Judged], known: set[str]) -> Mapping[str, Split]:
    by_name: dict[str, Split] = {split: split for split in SPLITS}
    splits: dict[str, Split] = {}
    for row in read_rows(path, ("id", "split")):
        if row["id"] not in known:
            raise row.error("id", f"{row['id']!r} is not in {LABELS}")
        if row["split"] not in by_name:
            raise row.error("split", f"must be one of {', '.join(SPLITS)}, not {row['split']!r}")
        if row["id"] in splits:
            raise row.error("id", f"{row['id']!r} is given twice")
        splits[row["id"]] = by_name[row["split"]]
    without = [post.id for post in kept if post.id not in splits]
    if without:
        raise UsageError(f"{path} gives no split for {len(without)} posts, such as {', '.join(without[:5])}")
    return splits


def _clip(data: Path, post: Judged, split: Split) -> Clip:
    image = data / f"{post.id}.jpg"
    labels = (post.sentiment, post.text, post.image)
    return Clip(
        id=post.id,
        split=split,
        labels={task.name: label for task, label in zip(TASKS, labels, strict=True)},
        media=image if image.is_file() else None,
        transcript=_read_text(data / f"{post.id}.txt"),
    )


def _read_text(path: Path) -> str | None:
    if not path.is_file():
        return None
    content = path.read_bytes()
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding).strip() or None
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1").strip() or None
