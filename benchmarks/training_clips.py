"""The clips that `benchmarks/training.py` trains on: real lengths, synthetic features with something to learn."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from mmsa.corpora.clip import Clip, Corpus
from mmsa.data import SplitData
from mmsa.features import FeatureTable, open_table, table_writer
from mmsa.tasks import Regression

MOSI = {"text": 768, "audio": 5, "vision": 20}
MOSEI = {"text": 768, "audio": 74, "vision": 35}
LIMITS = {"text": 50, "audio": 375, "vision": 500}
"""Steps that the peer pads to and cuts at."""

STEPS_PER_SECOND = {"audio": 20.0, "vision": 15.0}
SECONDS_PER_WORD = 0.35
MOSI_CLIPS = 1284
VALID_SHARE = 229 / 1284
MOSI_LABELS = "mosi/label.csv"
SENTIMENT = Regression("sentiment", -3, 3)
SIGNAL = 0.3
"""How far a step moves along one direction per unit of its clip's label; the noise around it has deviation 1."""

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """What decides a data set.

    Attributes:
        clips: in the training split; the validation split has MOSI's share of them besides.
        aligned: every modality has the words' steps, as in the peer's aligned file.
        dims: features per modality.
        factor: every clip is so many times as long.
        limited: cut at `LIMITS`.
    """

    clips: int = MOSI_CLIPS
    aligned: bool = False
    dims: tuple[tuple[str, int], ...] = tuple(MOSI.items())
    factor: float = 1.0
    limited: bool = True

    @property
    def name(self) -> str:
        """A folder's name."""
        kind = "aligned" if self.aligned else "unaligned"
        dims = "-".join(str(dim) for _, dim in self.dims)
        return f"{kind}-{self.clips}-{dims}-{self.factor:g}-{'cut' if self.limited else 'whole'}"


def words_per_clip() -> tuple[Lengths, str]:
    """Words of MOSI's training clips and where they are from."""
    folder = os.environ.get("MMSA_DATA")
    path = Path(folder) / MOSI_LABELS if folder else None
    if path is not None and path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows = [len(row["text"].split()) for row in csv.DictReader(file) if row["mode"] == "train"]
        return np.array(rows, np.int64), f"words per clip of $MMSA_DATA/{MOSI_LABELS}"
    # The logarithms of MOSI's counts have mean 2.305 and deviation 0.601.
    drawn = np.random.default_rng(0).lognormal(2.305, 0.601, MOSI_CLIPS)
    return np.maximum(1, np.rint(drawn)).astype(np.int64), "words per clip drawn from a log-normal (2.305, 0.601)"


def lengths_of(shape: Shape) -> dict[str, Lengths]:
    """Steps per modality of the training clips, then of the validation clips."""
    known, _ = words_per_clip()
    count = shape.clips + round(shape.clips * VALID_SHARE)
    random = np.random.default_rng(1)
    words = known[:count] if shape.clips <= len(known) else known[random.integers(len(known), size=shape.clips)]
    words = np.concatenate([words[: shape.clips], known[random.integers(len(known), size=count - shape.clips)]])
    words = words * shape.factor
    steps = {"text": words}
    for key, rate in STEPS_PER_SECOND.items():
        steps[key] = words if shape.aligned else words * SECONDS_PER_WORD * rate
    limits = dict.fromkeys(LIMITS, LIMITS["text"]) if shape.aligned else LIMITS
    found = {}
    for key, count in steps.items():
        whole = np.maximum(1, np.rint(count)).astype(np.int64)
        found[key] = np.minimum(whole, limits[key]) if shape.limited else whole
    return found


def labels_of(shape: Shape) -> NDArray[np.float32]:
    """Scores in [-3, 3], for all clips."""
    count = len(lengths_of(shape)["text"])
    return np.random.default_rng(2).uniform(-3, 3, count).astype(np.float32)


def write_clips(folder: Path, shape: Shape) -> None:
    """Make the feature tables of a data set, one folder per modality, in mmsa's own format."""
    lengths, labels = lengths_of(shape), labels_of(shape)
    random = np.random.default_rng(3)
    for key, dim in shape.dims:
        names = tuple(f"{key}_{i}" for i in range(dim))
        direction = random.normal(size=dim).astype(np.float32)
        direction /= np.linalg.norm(direction)
        with table_writer(folder / shape.name / key, ExtractorSpec(f"{key}.made", "none", "1", {}), names) as writer:
            for number, (steps, label) in enumerate(zip(lengths[key], labels, strict=True)):
                values = random.standard_normal((steps, dim), np.float32) + SIGNAL * label * direction
                seconds = np.arange(steps + 1, dtype=np.float64)
                times = np.stack([seconds[:-1], seconds[1:]], axis=1)
                writer.add(str(number), FeatureSequence(values, times, names), None)


def open_tables(folder: Path, shape: Shape) -> dict[str, FeatureTable]:
    """The tables that `write_clips` made."""
    return {key: open_table(folder / shape.name / key) for key, _ in shape.dims}


def corpus_of(shape: Shape) -> Corpus:
    """The clips with their labels and splits."""
    clips = tuple(
        Clip(str(i), "train" if i < shape.clips else "valid", {SENTIMENT.name: float(label)})
        for i, label in enumerate(labels_of(shape))
    )
    return Corpus("made", clips, (SENTIMENT,))


def split_of(folder: Path, shape: Shape, **more: Any) -> tuple[SplitData, SplitData]:
    """Our training and validation data."""
    corpus, tables = corpus_of(shape), open_tables(folder, shape)
    train, valid = (SplitData(corpus, tables, split, (SENTIMENT,), **more) for split in ("train", "valid"))
    return train, valid


@dataclass(frozen=True, eq=False)
class PaddedClips:
    """The peer's view of the training split: arrays of one length per modality, zeros behind the real steps."""

    values: dict[str, NDArray[np.float32]]
    lengths: dict[str, Lengths]
    labels: NDArray[np.float32]

    @property
    def megabytes(self) -> float:
        """Of the arrays."""
        return sum(array.nbytes for array in self.values.values()) / 2**20


def pad_clips(folder: Path, shape: Shape) -> PaddedClips:
    """Pad every clip to the peer's fixed lengths."""
    limits = dict.fromkeys(LIMITS, LIMITS["text"]) if shape.aligned else LIMITS
    values, lengths = {}, {}
    for key, table in open_tables(folder, shape).items():
        lengths[key] = np.diff(table.offsets)[: shape.clips]
        padded = np.zeros((shape.clips, limits[key], len(table.names)), np.float32)
        for row, (start, steps) in enumerate(zip(table.offsets, lengths[key], strict=False)):
            padded[row, :steps] = table.values[start : start + steps]
        values[key] = padded
    return PaddedClips(values, lengths, labels_of(shape)[: shape.clips])
