"""Import of the feature pickles of MMSA, MMSA-FET and MultiBench, without running anything that is in them.

MMSA's and MMSA-FET's hold `train`, `valid` and `test`, each with `id`, `raw_text`, padded `text`, `audio` and `vision`
`(N, L, D)`, `text_bert` `(N, 3, L)` (word-piece ids, mask, segments), maybe `audio_lengths` and `vision_lengths`, and
`regression_labels`, CH-SIMS's with `_T`, `_A` and `_V` as well. MultiBench's hold the same three splits with `vision`,
`audio`, `text`, `labels` and `id`. What else stands in a file is left alone and named in the report.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmsa.corpora.imported import ClipRow, Imported, checked_name, corpus_folder, write_corpus
from mmsa.corpora.padding import Side
from mmsa.corpora.pickle_features import modality_notes, write_modality
from mmsa.corpora.pickle_parts import MODALITIES, Array, Part, read_parts
from mmsa.errors import UsageError
from mmsa.tasks import Classification, Label, Regression, Task

RANGES = {"mosi": (-3.0, 3.0), "sims": (-1.0, 1.0), "simsv2": (-1.0, 1.0)}


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
        labels: `"mosi"` for [-3, 3], `"sims"` or `"simsv2"` for [-1, 1] with their metrics, or another range; None
            decides by the labels: two whole numbers are two classes, labels of single modalities or none beyond
            [-1, 1] are CH-SIMS's range.
        padding: the side of the padding; None finds out, by modality. Where `text_bert` is, its mask tells for text.

    Raises:
        UsageError: the file is not of this layout (all problems are named at once), holds what is never read from a
            pickle, or its labels lie outside the range; or the folder exists.
    """
    path, folder = Path(path), Path(folder)
    name = checked_name(name, folder)
    parts, ignored = read_parts(path)
    notes = [f"not read: {', '.join(sorted(ignored))}"] if ignored else []
    notes += _make_ids_unique(parts)
    tasks, label_notes = _tasks(path, parts, labels)
    notes += label_notes
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with corpus_folder(folder) as partial:
        reports = {}
        for key in MODALITIES:
            if any(key in part.features for part in parts):
                reports[key] = write_modality(partial / "features" / key, path, digest, key, parts, padding)
        note = f"The features are those of {path.name}; no extractor of mmsa made them."
        found = [key for key, report in reports.items() if report.clips]
        write_corpus(partial, name, note, tasks, list(_rows(parts, tasks)), found)
    notes += [f"{key}: {note}" for key, report in reports.items() for note in modality_notes(report)]
    return Imported(folder, name, {part.split: len(part) for part in parts}, tasks, reports, tuple(notes))


def _rows(parts: Sequence[Part], tasks: Sequence[Task]) -> Iterator[ClipRow]:
    for part in parts:
        for i, own in enumerate(part.ids):
            video, sign, clip = own.partition("$_$")
            yield ClipRow(
                id=own,
                split=part.split,
                labels=dict(_labels(part, tasks, i)),
                dialogue=video if sign else "",
                turn=clip if sign and clip.isascii() and clip.isdigit() else "",
                transcript=part.transcripts[i],
            )


def _labels(part: Part, tasks: Sequence[Task], i: int) -> Iterator[tuple[str, Label]]:
    for task in tasks:
        named = isinstance(task, Classification)
        value = float(part.labels["sentiment" if named else task.name][i])
        if np.isfinite(value):
            yield task.name, str(int(value)) if named else value


def _make_ids_unique(parts: Sequence[Part]) -> list[str]:
    counts = Counter(own for part in parts for own in part.ids)
    twice = {own: n for own, n in counts.items() if n > 1 or not own}
    for part in parts:
        part.ids = [f"{own}#{part.split}_{i}" if own in twice else own for i, own in enumerate(part.ids)]
    return [
        f"{len(twice)} ids are given to several clips (such as {next(iter(twice), '')!r}): split and number were added"
    ] * bool(twice)


def _tasks(
    path: Path, parts: Sequence[Part], chosen: str | tuple[float, float] | None
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
            raise UsageError(f"labels must be {', '.join(RANGES)} or a range, not {chosen!r}")
        return *RANGES[chosen], chosen
    reach = max(float(np.nanmax(np.abs(own), initial=0)) for own in values.values())
    if reach <= 1:
        return *RANGES["sims"], "sims"
    if reach <= 3 and len(values) == 1:
        return *RANGES["mosi"], "mosi"
    raise UsageError(f"{path} has labels up to ±{reach:g}, which are neither MOSI's nor CH-SIMS's: give their range")
