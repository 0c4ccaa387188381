"""MELD: seven emotions and three sentiments in dialogues from a television series.

Poria et al., "MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations", ACL 2019.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.errors import UsageError
from mmsa.tasks import MELD_EMOTIONS, Classification

FILES: dict[Split, tuple[str, tuple[str, ...]]] = {
    "train": ("train_sent_emo.csv", ("train_splits",)),
    "valid": ("dev_sent_emo.csv", ("dev_splits_complete",)),
    "test": ("test_sent_emo.csv", ("output_repeated_splits_test", "test_splits")),
}
"""Table and media folders of each split, as the official archives unpack."""

BROKEN = frozenset({"train_dia125_utt3", "valid_dia110_utt7", "test_dia38_utt4", "test_dia220_utt0"})
"""Clips whose media the official release carries unreadable, missing or cut to minutes: used as text only."""

TASKS = (
    Classification("emotion", MELD_EMOTIONS),
    Classification("sentiment", ("neutral", "positive", "negative")),
)
COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")


def load_meld(root: Path) -> Corpus:
    """Read MELD's official layout.

    The folder holds `train_sent_emo.csv`, `dev_sent_emo.csv`, `test_sent_emo.csv` and, if at hand, the clips as
    `train_splits/dia0_utt0.mp4`, `dev_splits_complete/…`, `output_repeated_splits_test/…`. Clips without a media
    file are text only. Utterances keep their punctuation; U+2019 apostrophes become ASCII ones, as English
    lexica and vocabularies have them.

    Raises:
        UsageError: a table is missing, lacks a column, or holds what no table of MELD holds.
    """
    missing = [name for name, _ in FILES.values() if not (root / name).is_file()]
    if missing:
        raise UsageError(f"{root} is not MELD's official layout: {', '.join(missing)} not found there")
    try:
        return Corpus("meld", tuple(clip for split in FILES for clip in _read_split(root, split)), TASKS)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"the tables in {root} are not MELD's: {error}") from None


def _read_split(root: Path, split: Split) -> Iterator[Clip]:
    table, folders = FILES[split]
    with (root / table).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, restval="")
        absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if absent:
            raise UsageError(f"{root / table} lacks the columns {', '.join(absent)}; it has {reader.fieldnames}")
        for row in reader:
            yield _clip(root, split, folders, row)


def _clip(root: Path, split: Split, folders: tuple[str, ...], row: dict[str, str]) -> Clip:
    stem = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
    key = f"{split}_{stem}"
    candidates = (root / folder / f"{stem}.mp4" for folder in folders)
    media = None if key in BROKEN else next((path for path in candidates if path.is_file()), None)
    return Clip(
        id=key,
        split=split,
        labels={"emotion": row["Emotion"].strip().lower(), "sentiment": row["Sentiment"].strip().lower()},
        media=media,
        transcript=row["Utterance"].replace("\u2019", "'").replace("\u2018", "'"),
        speaker=row["Speaker"].strip(),
        dialogue=f"{split}_{row['Dialogue_ID']}",
        turn=int(row["Utterance_ID"]),
    )
