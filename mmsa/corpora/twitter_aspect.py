"""Twitter-2015 and Twitter-2017: sentiment towards a person or thing named in a tweet with an image.

Yu and Jiang, "Adapting BERT for Target-Oriented Multimodal Sentiment Classification", IJCAI 2019 (TomBERT), whose
repository gives the tables out. A tweet has a row for each of its aspects.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.corpora.lines import find_folder, first_file, read_lines
from mmsa.errors import UsageError
from mmsa.tasks import Classification

FILES: dict[Split, str] = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}
CODES = {"0": "negative", "1": "neutral", "2": "positive"}
TASKS = (Classification("sentiment", tuple(CODES.values())),)
MASK = "$T$"
PLACES = {"twitter2015": (".", "twitter2015"), "twitter2017": (".", "twitter2017", "twitter")}
"""Where the tables lie under the root; the authors' repository calls Twitter-2017 `twitter`."""


def load_twitter2015(root: Path) -> Corpus:
    """Read Twitter-2015: `train.tsv`, `dev.tsv`, `test.tsv` in the folder, or in `twitter2015/` under it.

    The columns are, by position, index, label (0 negative, 1 neutral, 2 positive), image, tweet with `$T$` in place of
    the aspect, and aspect; the header of `test.tsv` names four, as it leaves the label's out. Images lie in
    `twitter2015_images/` beside the tables' folder or in it, or in `images/` in it; a row whose image is not there is
    text only.

    The transcript is the aspect, a colon, and the tweet with the aspect put in: rows of one tweet must differ for a
    model that reads one text, where TomBERT reads tweet and aspect as a pair. The aspect is an attribute as well.

    Raises:
        UsageError: a table is missing, or holds what it cannot.
    """
    return _load("twitter2015", root)


def load_twitter2017(root: Path) -> Corpus:
    """Read Twitter-2017: as Twitter-2015, from `twitter2017/` or `twitter/` and `twitter2017_images/`.

    Raises:
        UsageError: a table is missing, or holds what it cannot.
    """
    return _load("twitter2017", root)


def _load(name: str, root: Path) -> Corpus:
    folder = find_folder(root, PLACES[name], FILES["train"], name)
    images = [folder.parent / f"{name}_images", folder / f"{name}_images", folder / "images"]
    places = [place for place in images if place.is_dir()]
    clips = tuple(clip for split, file in FILES.items() for clip in _read(folder / file, split, places))
    try:
        return Corpus(name, clips, TASKS)
    except ValueError as error:
        raise UsageError(f"the tables in {folder} are not those of {name}: {error}") from None


def _read(path: Path, split: Split, images: list[Path]) -> Iterator[Clip]:
    for line in read_lines(path):
        cells = line.text.split("\t")
        if line.number == 1 and cells[0].strip() == "index":
            continue
        if len(cells) != 5:
            raise line.error(f"expected index, label, image, tweet, aspect with tabs between, not {len(cells)} cells")
        index, code, image, tweet, aspect = (cell.strip() for cell in cells)
        if code not in CODES:
            raise line.error(f"the label must be one of {', '.join(CODES)}, not {code!r}")
        if Path(image).name != image:
            raise line.error(f"the image must be the name of a file, not {image!r}")
        yield Clip(
            id=f"{split}_{index}",
            split=split,
            labels={TASKS[0].name: CODES[code]},
            media=first_file(folder / image for folder in images),
            transcript=f"{aspect}: {tweet.replace(MASK, aspect)}",
            attributes={"aspect": aspect, "image": image},
        )
