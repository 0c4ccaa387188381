"""Import of the feature pickles of MMSA, MMSA-FET and MultiBench, without running anything that is in them.

MMSA's and MMSA-FET's hold `train`, `valid` and `test`, each with `id`, `raw_text`, padded `text`, `audio` and `vision`
`(N, L, D)`, `text_bert` `(N, 3, L)` (word-piece ids, mask, segments), maybe `audio_lengths` and `vision_lengths`, and
`regression_labels`, CH-SIMS's with `_T`, `_A` and `_V` as well. MultiBench's hold the same three splits with `vision`,
`audio`, `text`, `labels` and `id`. What else stands in a file is left alone and named in the report.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.clip import SPLITS, Split
from mmsa.corpora.label_csv import UNIMODAL
from mmsa.corpora.padding import Side, Spans, detect_side, find_spans
from mmsa.corpora.safe_pickle import load_numpy_pickle
from mmsa.errors import UsageError
from mmsa.precomputed import precomputed_spec, write_precomputed
from mmsa.tasks import Classification, Regression, Task

MODALITIES = ("audio", "text", "vision")
LABELS = ("regression_labels", "labels")
UNIMODAL_KEYS = {task: f"regression_labels_{column[-1]}" for task, column in UNIMODAL.items()}
USED = frozenset(
    {*MODALITIES, *LABELS, *UNIMODAL_KEYS.values(), *(f"{key}_lengths" for key in MODALITIES)}
    | {"id", "raw_text", "text_bert"}
)
RANGES = {"mosi": (-3.0, 3.0), "sims": (-1.0, 1.0)}
FITS = 0.9
"""The text's mask tells how long aligned audio and vision are where at least this share of clips has no data beyond."""

Array = NDArray[Any]


@dataclass(frozen=True)
class ModalityReport:
    """How one modality was read.

    Attributes:
        features: `D`.
        longest_steps: of the clips as read.
        padding: `"left"`, `"right"`, or `"unknown"` where no clip tells (it is then read as right).
        lengths: where they came from: a key of the file, `"text_bert"`, `"zeros"` (cut off) or `"ragged"` (nothing is
            padded).
        clips: how many have it.
        missing: how many have only zeros.
        corrected: how many had data outside their given length and were read by their data.
        not_finite: how many values were infinite or not a number; they were read as 0.
    """

    features: int
    longest_steps: int
    padding: str
    lengths: str
    clips: int
    missing: int
    corrected: int
    not_finite: int


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        folder: the corpus; `mmsa train --corpus FOLDER` reads it.
        name: of the corpus.
        clips: by split.
        tasks: what the labels are.
        modalities: how each was read.
        notes: what a reader should know.
    """

    folder: Path
    name: str
    clips: Mapping[str, int]
    tasks: tuple[Task, ...]
    modalities: Mapping[str, ModalityReport]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "folder": str(self.folder),
            "name": self.name,
            "clips": dict(self.clips),
            "tasks": [task.to_dict() for task in self.tasks],
            "modalities": {key: asdict(report) for key, report in self.modalities.items()},
            "notes": list(self.notes),
        }


@dataclass
class _Part:
    """One split as it lies in the file."""

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

    def part(self, split: Split, data: Mapping[str, Any]) -> _Part | None:
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
        found = _Part(
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

    def _check_counts(self, part: _Part, count: int) -> None:
        sizes = {"id": len(part.ids), "raw_text": len(part.transcripts)}
        sizes |= {key: len(value) for key, value in part.labels.items()}
        sizes |= {key: len(value) for key, value in part.features.items()}
        sizes |= {f"{key}_lengths": len(np.atleast_1d(value)) for key, value in part.lengths.items()}
        sizes |= {"text_bert": len(part.mask)} if part.mask is not None else {}
        wrong = [f"{key} has {size}" for key, size in sizes.items() if size != count]
        if wrong:
            self.problems.append(f"{part.split}: there are {count} labels, but {', '.join(wrong)}")


def import_pickle(
    path: Path | str,
    folder: Path | str,
    *,
    name: str | None = None,
    labels: str | tuple[float, float] | None = None,
    padding: Side | None = None,
) -> Imported:
    """Turn a feature pickle into a corpus that can be trained on without any extractor.

    The folder holds `clips.csv` and `clips.yaml` (see `mmsa.corpora.table`) and one feature table per modality.
    Sequences are as long as the file says (`*_lengths`, the mask in `text_bert`); where it does not say, the zeros
    on the padded side are cut off. Steps of zeros inside a clip stay, as they keep aligned modalities aligned. A clip
    with nothing but zeros lacks the modality. Infinite and undefined values become 0, as the field's own loaders
    have it, and are counted.

    Args:
        path: the pickle.
        folder: where to write the corpus; must not exist.
        name: of the corpus; None is the folder's.
        labels: `"mosi"` for [-3, 3], `"sims"` for [-1, 1], or another range; None decides by the labels: two whole
            numbers are two classes, labels of single modalities or none beyond [-1, 1] are CH-SIMS's range.
        padding: the side of the padding; None finds out, by modality. Where `text_bert` is, its mask tells for text.

    Raises:
        UsageError: the file is not of this layout (all problems are named at once), holds what is never read from a
            pickle, or its labels lie outside the range; or the folder exists.
    """
    path, folder = Path(path), Path(folder)
    name = name or folder.name
    if not name or not all(letter.isalnum() or letter in "._-" for letter in name):
        raise UsageError(f"a corpus's name is made of letters, digits, '.', '_' and '-', not {name!r}")
    if folder.exists():
        raise UsageError(f"{folder} is there already: choose another folder, or delete it")
    parts, ignored = _read(path)
    notes = [f"not read: {', '.join(sorted(ignored))}"] if ignored else []
    notes += _make_ids_unique(parts)
    tasks, label_notes = _tasks(path, parts, labels)
    notes += label_notes
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder.resolve().parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.resolve().parent))
    try:
        reports = {}
        for key in MODALITIES:
            if any(key in part.features for part in parts):
                reports[key] = _write_modality(partial / "features" / key, path, digest, key, parts, padding)
        _write_clips(
            partial,
            name,
            f"The features are those of {path.name}; no extractor of mmsa made them.",
            parts,
            tasks,
            [key for key, report in reports.items() if report.clips],
        )
        partial.chmod(0o755)  # a temporary folder is its maker's only
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    notes += [f"{key}: {note}" for key, report in reports.items() for note in _modality_notes(report)]
    return Imported(folder, name, {part.split: len(part) for part in parts}, tasks, reports, tuple(notes))


def _read(path: Path) -> tuple[list[_Part], set[str]]:
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


def _disagreements(parts: Sequence[_Part]) -> Iterator[str]:
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


def _make_ids_unique(parts: Sequence[_Part]) -> list[str]:
    counts = Counter(own for part in parts for own in part.ids)
    twice = {own: n for own, n in counts.items() if n > 1 or not own}
    for part in parts:
        part.ids = [f"{own}#{part.split}_{i}" if own in twice else own for i, own in enumerate(part.ids)]
    return [
        f"{len(twice)} ids are given to several clips (such as {next(iter(twice), '')!r}): split and number were added"
    ] * bool(twice)


def _tasks(
    path: Path, parts: Sequence[_Part], chosen: str | tuple[float, float] | None
) -> tuple[tuple[Task, ...], list[str]]:
    names = list(parts[0].labels)
    values = {task: np.concatenate([part.labels[task] for part in parts]) for task in names}
    known = values["sentiment"][np.isfinite(values["sentiment"])]
    notes = [f"{n} clips have no {task} label" for task, own in values.items() if (n := int((~np.isfinite(own)).sum()))]
    if not len(known):
        raise UsageError(f"{path} has no label that is a number")
    distinct = np.unique(known)
    if chosen is None and len(distinct) == 2 and (distinct == distinct.round()).all():
        classes = tuple(str(int(value)) for value in distinct)
        notes.append(f"the labels are {classes[0]} and {classes[1]} alone: read as two classes, not as a range")
        return (Classification("label", classes),), notes
    low, high, metrics = _range(path, values, chosen)
    if chosen is None:
        notes.append(f"labels read in the range [{low:g}, {high:g}], by those there are: give another with --labels")
    for task, own in values.items():
        outside = [i for i, value in enumerate(own) if np.isfinite(value) and not low <= value <= high]
        if outside:
            ids = [clip for part in parts for clip in part.ids]
            shown = ", ".join(f"{ids[i]} {own[i]:g}" for i in outside[:5])
            raise UsageError(
                f"{len(outside)} {task} labels lie outside [{low:g}, {high:g}] ({shown}): choose another range"
            )
    return tuple(Regression(task, low, high, metrics) for task in names), notes


def _range(
    path: Path, values: Mapping[str, Array], chosen: str | tuple[float, float] | None
) -> tuple[float, float, str]:
    if isinstance(chosen, tuple):
        if not (np.isfinite(chosen).all() and chosen[0] < chosen[1]):
            raise UsageError(f"a range of labels is two numbers, the lower one first, not {chosen}")
        return *chosen, "plain"
    if chosen is not None:
        if chosen not in RANGES:
            raise UsageError(f"labels must be {' or '.join(RANGES)} or a range, not {chosen!r}")
        return *RANGES[chosen], chosen
    reach = max(float(np.nanmax(np.abs(own), initial=0)) for own in values.values())
    if reach <= 1:
        return *RANGES["sims"], "sims"
    if reach <= 3 and len(values) == 1:
        return *RANGES["mosi"], "mosi"
    raise UsageError(f"{path} has labels up to ±{reach:g}, which are neither MOSI's nor CH-SIMS's: give their range")


# ---- features


def _write_modality(
    folder: Path, path: Path, digest: str, key: str, parts: Sequence[_Part], padding: Side | None
) -> ModalityReport:
    width = int(parts[0].features[key][0].shape[1])
    used = [_used(part.features[key]) for part in parts]
    sources = {_source(part, key, own) for part, own in zip(parts, used, strict=True)}
    source = sources.pop() if len(sources) == 1 else "zeros"
    if source == "text_bert" and key == "text":  # BERT's states of padding are not zeros: only the mask tells
        used, padding = [part.mask for part in parts], None
    lengths = [_lengths(part, key, source) for part in parts]
    told = (detect_side(u, n) for u, n in zip(used, lengths, strict=True) if u is not None)
    side = padding or next((found for found in told if found is not None), None)
    spans = [_spans(part, key, own, n, side) for part, own, n in zip(parts, used, lengths, strict=True)]
    count: Counter[str] = Counter()
    spec = precomputed_spec(path.name, digest, modality=key, padding=side or "unknown", lengths=source)
    names = tuple(f"{key}_{i}" for i in range(width))
    write_precomputed(folder, spec, names, _sequences(parts, key, spans, count))
    return ModalityReport(
        features=width,
        longest_steps=max((int((s.stop - s.start).max(initial=0)) for s in spans), default=0),
        padding=side or ("none" if source == "ragged" else "unknown"),
        lengths=source,
        clips=count["clips"],
        missing=count["missing"],
        corrected=sum(s.corrected for s in spans),
        not_finite=count["not finite"],
    )


def _used(clips: Sequence[Array]) -> Array | None:
    """`(N, L)`: which steps hold a finite number other than 0; None where clips differ in length."""
    if len({len(clip) for clip in clips}) > 1:
        return None
    used: Array = np.stack([((clip != 0) & np.isfinite(clip)).any(axis=1) for clip in clips])
    return used


def _source(part: _Part, key: str, used: Array | None) -> str:
    """What says how long the clips are."""
    if used is None:
        return "ragged"
    if key in part.lengths:
        return f"{key}_lengths"
    if part.mask is not None and part.mask.shape == used.shape:
        if key == "text":
            return "text_bert"
        if find_spans(used, part.mask.sum(axis=1)).corrected <= (1 - FITS) * len(used):
            return "text_bert"
    return "zeros"


def _lengths(part: _Part, key: str, source: str) -> Array | None:
    if source == f"{key}_lengths":
        lengths: Array = np.asarray(part.lengths[key]).reshape(-1)
        return lengths
    if source == "text_bert" and key != "text" and part.mask is not None:
        return np.asarray(part.mask.sum(axis=1))
    return None


def _spans(part: _Part, key: str, used: Array | None, lengths: Array | None, side: Side | None) -> Spans:
    if used is not None:
        return find_spans(used, lengths, side)
    stops = np.array([len(clip) for clip in part.features[key]], np.int64)
    return Spans(np.zeros(len(stops), np.int64), stops, None)


def _sequences(
    parts: Sequence[_Part], key: str, spans: Sequence[Spans], count: Counter[str]
) -> Iterator[tuple[str, NDArray[np.float32], str]]:
    for part, own in zip(parts, spans, strict=True):
        for i, clip in enumerate(part.features[key]):
            with np.errstate(over="ignore", invalid="ignore"):
                values = np.asarray(clip[own.start[i] : own.stop[i]]).astype(np.float32)
            bad = ~np.isfinite(values)
            values[bad] = 0.0
            count["not finite"] += int(bad.sum())
            if not values.any():  # zeros are no data
                values = values[:0]
            count["clips" if len(values) else "missing"] += 1
            yield part.ids[i], values, "only zeros in the imported file"


def _modality_notes(report: ModalityReport) -> Iterator[str]:
    if report.missing:
        yield f"{report.missing} clips hold only zeros and count as missing"
    if report.not_finite:
        yield f"{report.not_finite} values were infinite or undefined and are read as 0"
    if report.corrected:
        yield f"{report.corrected} clips have data beyond their given length and were read by their data"
    if report.padding == "unknown":
        yield "no clip tells which side the padding is on: read as on the right; give another with --padding left"


# ---- the table


def _write_clips(
    folder: Path, name: str, note: str, parts: Sequence[_Part], tasks: Sequence[Task], modalities: Sequence[str]
) -> None:
    """`clips.csv` and `clips.yaml`, from which `mmsa.corpora.table` reads the same corpus."""
    import yaml

    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", *(task.name for task in tasks), "dialogue", "turn", "transcript"])
        for part in parts:
            for i, own in enumerate(part.ids):
                video, sign, clip = own.partition("$_$")
                turn = clip if sign and clip.isascii() and clip.isdigit() else ""
                cells = [_cell(task, part.labels, i) for task in tasks]
                writer.writerow([own, part.split, *cells, video if sign else "", turn, part.transcripts[i]])
    described = {
        "name": name,
        "note": note,
        "tasks": {task.name: _described(task) for task in tasks},
        "default_tasks": [tasks[0].name],
        "features": {key: f"features/{key}" for key in modalities},
    }
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    (folder / "clips.yaml").write_text(text, encoding="utf-8")


def _cell(task: Task, labels: Mapping[str, Array], i: int) -> str:
    value = float(labels["sentiment" if isinstance(task, Classification) else task.name][i])
    if not np.isfinite(value):
        return ""
    return str(int(value)) if isinstance(task, Classification) else repr(value)


def _described(task: Task) -> dict[str, Any]:
    return {key: value for key, value in task.to_dict().items() if key != "name"}
