"""Twitter sarcasm (often called HFM or MMSD): is a tweet with its image sarcastic?

Cai, Cai and Wan, "Multi-Modal Sarcasm Detection in Twitter with Hierarchical Fusion Model", ACL 2019; the authors'
repository gives the texts out. Later work found hashtags and emojis to give the label away (Qin et al., "MMSD2.0",
Findings of ACL 2023): high scores here need not mean that sarcasm is understood.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.corpora.lines import Line, find_folder, first_file, read_lines
from mmsa.errors import UsageError
from mmsa.tasks import Classification

FILES: dict[Split, str] = {"train": "train.txt", "valid": "valid2.txt", "test": "test2.txt"}
LABEL_COUNTS: dict[Split, int] = {"train": 1, "valid": 2, "test": 2}
TASKS = (Classification("sarcasm", ("not sarcastic", "sarcastic")),)
IMAGES = ("dataset_image", "images", "image")
LEAKS = frozenset(
    {"exgag", "sarcasm", "sarcastic", "reposting", "<url>", "joke", "humour", "humor", "jokes", "irony", "ironic"}
)
"""Words of a post, between spaces, for which the authors leave it out: they tell the label, or that its image is not
its own. Images of such posts were not given out."""

NOTE = (
    "Training labels are hashtags; hashtags and emojis left in the text are known to give labels away (MMSD2.0, 2023)."
)


def load_twitter_sarcasm(root: Path) -> Corpus:
    """Read `train.txt`, `valid2.txt` and `test2.txt`, in the folder or in `text/` under it.

    A line is a list as Python writes it: `['<id>', '<text>', 1]`; it is read as a literal, nothing is run. In
    validation and test there are two labels: by the post's hashtag, kept as the attribute `hashtag`, and by a human,
    which counts. Posts with one of `LEAKS` are left out, as in the paper: 19816, 2410 and 2409 remain.

    The archives of images say nothing of a folder: `dataset_image/<id>.jpg`, `images/<id>.jpg` and `image/<id>.jpg` are
    looked for, beside the texts and above them. Posts without an image are text only.

    Raises:
        UsageError: a file is missing, or a line is not of this form.
    """
    folder = find_folder(root, (".", "text"), FILES["valid"], "twitter_sarcasm")
    candidates = [above / name for above in dict.fromkeys((root, folder)) for name in IMAGES]
    images = [place for place in candidates if place.is_dir()]
    clips = tuple(clip for split in FILES for clip in _read(folder / FILES[split], split, images))
    try:
        return Corpus("twitter_sarcasm", clips, TASKS, NOTE)
    except ValueError as error:
        raise UsageError(f"the files in {folder} are not those of Twitter sarcasm: {error}") from None


def _read(path: Path, split: Split, images: list[Path]) -> Iterator[Clip]:
    for line in read_lines(path):
        key, text, labels = _parse(line, LABEL_COUNTS[split])
        if LEAKS & set(text.split()):
            continue
        yield Clip(
            id=key,
            split=split,
            labels={TASKS[0].name: TASKS[0].classes[labels[-1]]},
            media=first_file(folder / f"{key}.jpg" for folder in images),
            transcript=text.strip() or None,
            attributes={"hashtag": TASKS[0].classes[labels[0]]} if len(labels) == 2 else {},
        )


def _parse(line: Line, count: int) -> tuple[str, str, list[int]]:
    """Id, text and labels."""
    try:
        row = ast.literal_eval(line.text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        row = None
    if isinstance(row, list) and len(row) == 2 + count:
        key, text, *labels = row
        whole = isinstance(key, str) and key.isascii() and key.isalnum() and isinstance(text, str)
        if whole and all(type(label) is int and label in (0, 1) for label in labels):
            return key, text, labels
    form = ", ".join(["'id', 'text'", *["0 or 1"] * count])
    raise line.error(f"expected [{form}], not {line.text[:80]!r}")
