"""The splits of a feature pickle of MMSA, MMSA-FET or MultiBench as they lie in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.clip import SPLITS, Split
from mmsa.corpora.label_csv import UNIMODAL
from mmsa.corpora.safe_pickle import load_numpy_pickle
from mmsa.errors import UsageError

MODALITIES = ("audio", "text", "vision")
LABELS = ("regression_labels", "labels")
UNIMODAL_KEYS = {task: f"regression_labels_{column[-1]}" for task, column in UNIMODAL.items()}
USED = frozenset(
    {*MODALITIES, *LABELS, *UNIMODAL_KEYS.values(), *(f"{key}_lengths" for key in MODALITIES)}
    | {"id", "raw_text", "text_bert"}
)

Array = NDArray[Any]


@dataclass
class Part:
    """One split as it lies in the file.

    Attributes:
        split: which.
        ids: of its clips, as text.
        transcripts: by clip; "" where there is none.
        labels: by task, `(N,)`; NaN where unlabelled.
        features: by modality, an array `(L, D)` per clip.
        lengths: by modality, how many steps the file gives each clip.
        mask: `(N, L)` boolean, which word pieces are real, or None.
    """

    split: Split
    ids: list[str]
    transcripts: list[str]
    labels: dict[str, NDArray[np.float64]]
    features: dict[str, Sequence[Array]]
    lengths: dict[str, Array]
    mask: Array | None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class _Reader:
    """Gathers what is wrong and what is worth knowing while splits are read."""

    problems: list[str] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)

    def part(self, split: Split, data: Mapping[str, Any]) -> Part | None:
        before = len(self.problems)
        self.ignored |= {str(key) for key in data if key not in USED}
        key = next((key for key in LABELS if key in data), None)
        if key is None:
            self.problems.append(f"{split} has no labels: neither {' nor '.join(LABELS)}")
            return None
        keys = {"sentiment": key, **{task: own for task, own in UNIMODAL_KEYS.items() if own in data}}
        read = {task: self._labels(split, own, data) for task, own in keys.items()}
        labels = {task: values for task, values in read.items() if values is not None}
        count = len(labels.get("sentiment", ()))
        found = Part(
            split=split,
            ids=[_identity(item) for item in data["id"]] if "id" in data else [f"{split}_{i}" for i in range(count)],
            transcripts=[_text(item) for item in data["raw_text"]] if "raw_text" in data else [""] * count,
            labels=labels,
            features={m: own for m in MODALITIES if m in data and (own := self._padded(split, m, data[m])) is not None},
            lengths={m: np.asarray(data[f"{m}_lengths"]) for m in MODALITIES if f"{m}_lengths" in data},
            mask=_mask(data["text_bert"]) if "text_bert" in data else None,
        )
        if "sentiment" in labels:
            self._check_counts(found, count)
        return found if len(self.problems) == before else None

    def _labels(self, split: str, key: str, data: Mapping[str, Any]) -> NDArray[np.float64] | None:
        try:
            values = np.asarray(data[key], np.float64)
        except (ValueError, TypeError):
            self.problems.append(f"{split}: {key} must be numbers")
            return None
        if not values.ndim or values.size != len(values):
            self.problems.append(f"{split}: {key} must be one number per clip, not {values.shape}")
            return None
        return values.reshape(-1)

    def _padded(self, split: str, key: str, value: Any) -> Sequence[Array] | None:
        """Arrays `(L, D)` by clip: views of one `(N, L, D)`, or as many of their own."""
        clips: Any = value
        if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype.kind == "O"):
            clips = [np.asarray(clip) for clip in value]
        elif isinstance(value, np.ndarray) and value.ndim == 2:
            clips = value[:, np.newaxis, :]
        first = clips[0] if isinstance(clips, list | np.ndarray) and len(clips) else np.zeros((0, 0))
        fit = isinstance(clips, list | np.ndarray) and all(
            clip.ndim == 2 and clip.dtype.kind in "biuf" and clip.shape[1] == first.shape[1]
            for clip in (clips if isinstance(clips, list) else clips[:1])
        )
        if not fit or not first.shape[1]:
            given = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
            self.problems.append(f"{split}: {key} must be (N, L, D) numbers, not {given}")
            return None
        return clips  # type: ignore[no-any-return]

    def _check_counts(self, part: Part, count: int) -> None:
        sizes = {"id": len(part.ids), "raw_text": len(part.transcripts)}
        sizes |= {key: len(value) for key, value in part.labels.items()}
        sizes |= {key: len(value) for key, value in part.features.items()}
        sizes |= {f"{key}_lengths": len(np.atleast_1d(value)) for key, value in part.lengths.items()}
        sizes |= {"text_bert": len(part.mask)} if part.mask is not None else {}
        wrong = [f"{key} has {size}" for key, size in sizes.items() if size != count]
        if wrong:
            self.problems.append(f"{part.split}: there are {count} labels, but {', '.join(wrong)}")


def read_parts(path: Path) -> tuple[list[Part], set[str]]:
    """Read a feature pickle.

    Returns:
        The splits that hold clips, and the names of what was not read.

    Raises:
        UsageError: it holds what is never read from a pickle, or is not of this layout; all problems are named at
            once.
    """
    data = load_numpy_pickle(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds a {type(data).__name__}, not a feature file with train, valid and test")
    splits = {split: data[split] for split in SPLITS if isinstance(data.get(split), dict)}
    if not splits:
        single = "one clip without a split, as for scoring" if USED & {str(key) for key in data} else "no split"
        raise UsageError(f"{path} holds {single}: a feature file holds train, valid and test")
    reader = _Reader(ignored={str(key) for key in data if key not in splits})
    try:
        parts = [reader.part(split, own) for split, own in splits.items()]
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise UsageError(f"{path} is not of MMSA's or MultiBench's layout: {error}") from None
    found = [part for part in parts if part is not None and len(part)]
    reader.problems += _disagreements(found)
    if reader.problems or not found:
        lines = "\n".join(f"  {problem}" for problem in reader.problems or ["no clips"])
        raise UsageError(f"{path} is not of MMSA's or MultiBench's layout:\n{lines}")
    return found, reader.ignored


def _disagreements(parts: Sequence[Part]) -> Iterator[str]:
    """What must be the same in all splits and is not."""
    for key in MODALITIES:
        widths = {part.split: part.features[key][0].shape[1] for part in parts if key in part.features}
        if widths and (len(widths) < len(parts) or len(set(widths.values())) > 1):
            told = [f"{part.split} {widths.get(part.split, 'none')}" for part in parts]
            yield f"{key} must have as many features in every split: {', '.join(told)}"
    if len({frozenset(part.labels) for part in parts}) > 1:
        yield f"the labels differ between splits: {', '.join(f'{p.split} {sorted(p.labels)}' for p in parts)}"


def _text(item: Any) -> str:
    if isinstance(item, bytes):
        item = item.decode("utf-8", "replace")
    return str(item).encode("utf-8", "replace").decode().strip()


def _identity(item: Any) -> str:
    """An id as text; MultiBench's may be a list of the video, the start and the end."""
    if isinstance(item, list | tuple | np.ndarray):
        return "_".join(_text(part) for part in np.ravel(np.asarray(item, object)))
    return _text(item)


def _mask(value: Any) -> Array:
    """`(N, L)` boolean: which word pieces are real."""
    array = np.asarray(value)
    if array.ndim != 3 or array.shape[1] != 3 or array.dtype.kind not in "biuf":
        raise ValueError(f"text_bert must be (N, 3, L) numbers, not {array.shape} {array.dtype}")
    mask: Array = array[:, 1] > 0
    return mask
