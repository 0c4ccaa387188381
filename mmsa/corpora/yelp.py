"""Yelp: ratings of restaurant reviews with photos, in five cities.

Truong and Lauw, "VistaNet: Visual Aspect Attention Network for Multimodal Sentiment Analysis", AAAI 2019, whose
repository gives the reviews out. The paper tests on each city, and averages over them by their sizes, which is the same
as testing on all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.corpora.lines import Line, find_folder, first_file, read_lines
from mmsa.errors import UsageError
from mmsa.tasks import Classification, Regression, Task

CITIES = ("Boston", "Chicago", "Los Angeles", "New York", "San Francisco")
SENTENCES = "|||"
"""What stands between the sentences of a text."""

STARS = ("1", "2", "3", "4", "5")
TASKS: tuple[Task, ...] = (Classification("rating", STARS), Regression("stars", 1.0, 5.0))
MAX_PHOTOS = 3
"""So many photos of a review are used, as in the paper; every review has at least three."""


def load_yelp(root: Path) -> Corpus:
    """Read `train.json`, `valid.json` and `test/<city>_test.json`: a JSON object a line.

    Each has `_id`, `Text` (tokenised, `|||` between sentences), `Rating` (1 to 5) and `Photos`, a list of objects with
    `_id`. They lie in the folder or in `data/` under it. The photos themselves are looked for as
    `photos/<first two letters of the id>/<id>.jpg`, which is how the authors' code keeps their features, and as
    `photos/<id>.jpg`; how their archive of photos unpacks could not be ascertained. The first three that are there are
    used, each a step of vision; a review without any is text only.

    `rating` is the published task: which of five; `stars` is the same as a number, learned only when asked for. The
    attribute `city` is that of a test review.

    Raises:
        UsageError: a file is missing, or a line is not of this form.
    """
    folder = find_folder(root, (".", "data"), "train.json", "yelp")
    sources: list[tuple[Split, Path, str]] = [
        ("train", folder / "train.json", ""),
        ("valid", folder / "valid.json", ""),
        *(("test", folder / "test" / f"{city}_test.json", city) for city in CITIES),
    ]
    clips = tuple(clip for split, path, city in sources for clip in _read(path, split, city, folder / "photos"))
    try:
        return Corpus("yelp", clips, TASKS, default_tasks=("rating",))
    except ValueError as error:
        raise UsageError(f"the files in {folder} are not VistaNet's: {error}") from None


def _read(path: Path, split: Split, city: str, photos: Path) -> Iterator[Clip]:
    there = photos.is_dir()
    for line in read_lines(path):
        review = _parse(line)
        ids = [photo["_id"] for photo in review["Photos"]] if there else []
        found = (file for key in ids if (file := first_file((photos / key[:2] / f"{key}.jpg", photos / f"{key}.jpg"))))
        images = tuple(islice(found, MAX_PHOTOS))
        rating = str(int(review["Rating"]))
        yield Clip(
            id=review["_id"],
            split=split,
            labels={"rating": rating, "stars": float(rating)},
            media=images[0] if images else None,
            more_media=images[1:],
            transcript=" ".join(review["Text"].replace(SENTENCES, " ").split()) or None,
            attributes={"city": city} if city else {},
        )


def _parse(line: Line) -> dict[str, Any]:
    try:
        review = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        raise line.error(f"is not JSON: {error}") from None
    if not isinstance(review, dict):
        raise line.error(f"must be an object, not {line.text[:80]!r}")
    for name in ("_id", "Text"):
        if not isinstance(review.get(name), str):
            raise line.error(f"{name} must be text, not {review.get(name)!r}")
    rating = review.get("Rating")
    if isinstance(rating, bool) or not isinstance(rating, int | float) or rating not in range(1, 6):
        raise line.error(f"Rating must be a whole number from 1 to 5, not {rating!r}")
    photos = review.get("Photos")
    if not isinstance(photos, list) or not all(
        isinstance(photo, dict) and _is_id(photo.get("_id")) for photo in photos
    ):
        raise line.error(f"Photos must be a list of objects with an _id, not {str(photos)[:80]!r}")
    return review


def _is_id(key: object) -> bool:
    """A name that cannot lead out of the folder of photos."""
    return isinstance(key, str) and bool(key) and not set(key) & set("/\\\0") and key not in (".", "..")
