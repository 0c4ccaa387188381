"""Multi-ZOL: Chinese reviews of mobile phones with images, and a score for each of six aspects.

Xu, Mao and Chen, "Multi-Interactive Memory Network for Aspect Based Multimodal Sentiment Analysis", AAAI 2019 (MIMN),
whose repository gives the split out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.corpora.lines import Line, find_folder, read_lines
from mmsa.errors import UsageError
from mmsa.tasks import Classification, Regression, Task

FILES: dict[Split, str] = {"train": "zol_Train_jieba.txt", "valid": "zol_Dev_jieba.txt", "test": "zol_Test_jieba.txt"}
PLACES = (".", "zolDataset", "datasets/zolDataset")
IMAGES = ("img", "multidata_zol/img")
ASPECTS = {
    "性价比": "value for money",
    "性能配置": "performance",
    "电池续航": "battery life",
    "外观手感": "look and feel",
    "拍照效果": "camera",
    "屏幕效果": "screen",
}
SCORES = ("1", "2", "3", "4", "5", "6", "8", "10")
"""Scores that occur: 7 and 9 cannot be given. They are the classes of the published task."""

TASKS: tuple[Task, ...] = (Classification("sentiment", SCORES), Regression("score", 1.0, 10.0))
MAX_IMAGES = 5
"""So many images of a review are used, as in the authors' code; there are up to 111."""

LINES = 4
NOTE = (
    "The official split is by review and aspect: other aspects of the test reviews, with the same words and images, "
    "are in train."
)


def load_multi_zol(root: Path) -> Corpus:
    """Read `zol_Train_jieba.txt`, `zol_Dev_jieba.txt` and `zol_Test_jieba.txt`, and `img/`.

    A sample has four lines: the review in words (cut by jieba, without punctuation), its images as a list that Python
    writes, the aspect, the score. The tables lie in the folder, in `zolDataset/` or in `datasets/zolDataset/` under it;
    the images in `img/` or `multidata_zol/img/` under it or beside the tables. Of each review the first five images
    that are there are used, each a step of vision.

    `sentiment` is the published task: which of eight scores; `score` is the same as a number from 1 to 10, learned only
    when asked for. The transcript is the aspect, a colon, and the review; the aspect is an attribute as well.

    Raises:
        UsageError: a file is missing, or a sample is not of this form.
    """
    folder = find_folder(root, PLACES, FILES["train"], "multi_zol")
    candidates = [above / name for above in dict.fromkeys((root, folder)) for name in IMAGES]
    images = [place for place in candidates if place.is_dir()]
    clips = tuple(clip for split in FILES for clip in _read(folder / FILES[split], split, images))
    try:
        return Corpus("multi_zol", clips, TASKS, NOTE, default_tasks=("sentiment",))
    except ValueError as error:
        raise UsageError(f"the files in {folder} are not Multi-ZOL's: {error}") from None


def _read(path: Path, split: Split, folders: list[Path]) -> Iterator[Clip]:
    lines = read_lines(path, empty=True)
    number = 0
    while sample := list(islice(lines, LINES)):
        if not any(line.text.strip() for line in sample):
            break
        if len(sample) < LINES:
            raise sample[-1].error("the file ends within a sample, which has four lines: review, images, aspect, score")
        words, listed, aspect, score = sample
        if aspect.text.strip() not in ASPECTS:
            raise aspect.error(f"the aspect must be one of {', '.join(ASPECTS)}, not {aspect.text!r}")
        named = aspect.text.strip()
        found = (path for name in _names(listed) for folder in folders if (path := folder / name).is_file())
        images = tuple(islice(found, MAX_IMAGES))
        value = _score(score)
        yield Clip(
            id=f"{split}_{number}",
            split=split,
            labels={"sentiment": value, "score": float(value)},
            media=images[0] if images else None,
            more_media=images[1:],
            transcript=f"{named}： {words.text.strip()}",
            attributes={"aspect": named, "aspect_in_english": ASPECTS[named]},
        )
        number += 1


def _names(line: Line) -> list[str]:
    try:
        names = ast.literal_eval(line.text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise line.error(f"expected a list of image files such as ['a.jpg', 'b.jpg'], not {line.text[:80]!r}")
    return names


def _score(line: Line) -> str:
    whole, _, rest = line.text.strip().partition(".")
    if whole not in SCORES or rest.strip("0"):
        raise line.error(f"the score must be one of {', '.join(SCORES)}, not {line.text!r}")
    return whole
