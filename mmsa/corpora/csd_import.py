"""CMU-MOSI and CMU-MOSEI out of the CMU-MultimodalSDK's computational sequences (see `mmsa.corpora.csd`).

Each stretch that has labels becomes a clip, with the steps and words that share time with it. The SDK's label sequence
holds `(T, 1)` sentiment for MOSI ("Opinion Segment Labels") and `(T, 7)` for MOSEI ("All Labels"): sentiment in
[-3, 3], then happy, sad, anger, surprise, disgust and fear in [0, 3], each of which is present where it is above 0.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from mmsa.corpora.clip import SPLITS, Split
from mmsa.corpora.csd import ComputationalSequence, entry_number
from mmsa.corpora.csd_sequences import Sequences, open_sequences
from mmsa.corpora.folds import find_folds, read_folds
from mmsa.corpora.imported import (
    ClipRow,
    Imported,
    ModalityReport,
    checked_name,
    corpus_folder,
    write_corpus,
    write_sequences,
)
from mmsa.corpora.mosei import EMOTIONS
from mmsa.errors import UsageError
from mmsa.precomputed import precomputed_spec
from mmsa.progress import track
from mmsa.tasks import Label, MultiLabel, Regression, Task

SENTIMENT = Regression("sentiment", -3.0, 3.0, metrics="mosi")
TASKS: Mapping[int, tuple[Task, ...]] = {1: (SENTIMENT,), 1 + EMOTIONS.output_dim: (SENTIMENT, EMOTIONS)}
"""What the labels are, by how many numbers a stretch has."""

SLACK = 1e-3
"""So far beyond its range a label may lie, as means of ratings in single precision do."""

NOTE = "The features are those of {files}, cut by the labels' times; no extractor of mmsa made them."


@dataclass(frozen=True)
class _Segment:
    """A stretch of a video that has labels."""

    video: str
    row: ClipRow
    start_seconds: float
    end_seconds: float


@dataclass
class _Reader:
    """Reads the labels and gathers what is worth knowing about them."""

    labels: ComputationalSequence
    folds: Mapping[str, Split]
    tasks: tuple[Task, ...]
    left_out: set[str] = field(default_factory=set)
    count: Counter[str] = field(default_factory=Counter)

    def segments(self) -> Iterator[_Segment]:
        """By video, in the order of their times."""
        for video in self.labels.videos:
            found = list(self._of_video(video))
            if video not in self.folds:
                self.left_out.add(video)
                self.count["without a split"] += len(found)
                continue
            for turn, (clip, start, end, labels) in enumerate(sorted(found, key=lambda item: item[1:3])):
                times = {"start_in_video": f"{start:.3f}", "end_in_video": f"{end:.3f}"}
                row = ClipRow(clip, self.folds[video], labels, dialogue=video, turn=str(turn), attributes=times)
                yield _Segment(video, row, start, end)

    def _of_video(self, video: str) -> Iterator[tuple[str, float, float, dict[str, Label]]]:
        for entry in self.labels.videos[video]:
            times, values = self.labels.intervals(entry), self.labels.features(entry)
            if entry_number(entry) >= 0 and len(times) > 1:
                raise UsageError(f"{self.labels.path}: entry {entry} has {len(times)} labels: one stretch has one")
            for i, (start, end) in enumerate(times.tolist()):
                if not 0 <= start < end:  # false for NaN as well
                    self.count["without a time"] += 1
                    continue
                clip = entry if entry_number(entry) >= 0 else f"{video}[{i}]"
                yield clip, start, end, dict(self._labels(clip, values[i]))

    def _labels(self, clip: str, values: NDArray[np.float64]) -> Iterator[tuple[str, Label]]:
        if not np.isfinite(values).all():
            self.count["without labels"] += 1
            return
        sentiment = float(values[0])
        if not SENTIMENT.low - SLACK <= sentiment <= SENTIMENT.high + SLACK:
            raise UsageError(f"{self.labels.path}: clip {clip}: sentiment must lie in [-3, 3], not {sentiment:g}")
        yield SENTIMENT.name, float(np.clip(sentiment, SENTIMENT.low, SENTIMENT.high))
        for task in self.tasks[1:]:
            if isinstance(task, MultiLabel):
                yield task.name, tuple(name for name, v in zip(task.classes, values[1:], strict=True) if v > 0)


def import_csd(
    source: Path | str,
    folder: Path | str,
    *,
    name: str | None = None,
    folds: Path | str | None = None,
    use: Mapping[str, str] | None = None,
) -> Imported:
    """Turn a folder of computational sequences into a corpus that can be trained on without any extractor.

    A step belongs to a clip where the two share more than a hundredth of a millisecond, as in the SDK's own
    alignment, and its times are those they share, in seconds from the beginning of the video. Words become the
    transcript, without pauses. Infinite and undefined values become 0 and are counted; a clip with nothing but zeros
    lacks the modality. Clips are called `<video>[<number>]`, as the SDK calls them; those of videos without a split
    are left out and counted. Features pass through clip by clip, so that memory does not grow with the corpus.

    Args:
        source: the folder with the `.csd` files of one corpus.
        folder: where to write the corpus; must not exist.
        name: of the corpus; None is the folder's.
        folds: which video is in which split (`mmsa.corpora.folds`); None looks in `source`.
        use: by modality, the sequence to take where several would fit (`mmsa.corpora.csd_sequences`).

    Raises:
        UsageError: a file is missing, or is not as it must be; or the folder exists.
    """
    source, folder = Path(source), Path(folder)
    name = checked_name(name, folder)
    splits = read_folds(Path(folds) if folds else find_folds(source))
    with open_sequences(source, use) as sequences:
        labels = sequences.labels
        if labels.width not in TASKS:
            raise UsageError(f"{labels.path} has {labels.width} labels per clip: MOSI's has 1, MOSEI's 7")
        reader = _Reader(labels, splits, TASKS[labels.width])
        segments = list(reader.segments())
        if not segments:
            raise UsageError(f"none of the {len(reader.left_out)} videos of {labels.path} is in a split: wrong folds?")
        rows = [_with_words(segment, sequences.words) for segment in segments]
        with corpus_folder(folder) as partial:
            reports = {
                key: _write_modality(partial / "features" / key, key, sequence, segments)
                for key, sequence in sequences.features.items()
            }
            found = [key for key, report in reports.items() if report.clips]
            files = ", ".join(sequences.features[key].path.name for key in found) or labels.path.name
            write_corpus(partial, name, NOTE.format(files=files), reader.tasks, rows, found)
    counts = Counter(row.split for row in rows)
    notes = tuple(_notes(reader, sequences, segments, reports))
    return Imported(folder, name, {s: counts[s] for s in SPLITS}, reader.tasks, reports, notes)


def _with_words(segment: _Segment, words: ComputationalSequence | None) -> ClipRow:
    if words is None:
        return segment.row
    said = words.words(segment.video, segment.start_seconds, segment.end_seconds)
    return ClipRow(**{**vars(segment.row), "transcript": " ".join(said)})


def _write_modality(
    folder: Path, key: str, sequence: ComputationalSequence, segments: Sequence[_Segment]
) -> ModalityReport:
    with sequence.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    spec = precomputed_spec(sequence.path.name, digest, modality=key, sequence=sequence.name)
    names = tuple(f"{key}_{i}" for i in range(sequence.width))
    count: Counter[str] = Counter()

    def steps() -> Iterator[tuple[str, FeatureSequence, str]]:
        for segment in track(segments, f"Reading {sequence.name}", len(segments)):
            found = sequence.between(segment.video, segment.start_seconds, segment.end_seconds)
            kept = slice(None) if found.values.any() else slice(0)  # zeros are no data
            own = FeatureSequence(found.values[kept], found.times[kept], names)
            count["clips" if len(own) else "missing"] += 1
            count["not finite"] += found.not_finite
            count["longest"] = max(count["longest"], len(own))
            yield segment.row.id, own, _reason(sequence, segment.video, len(found.values))

    write_sequences(folder, spec, names, steps())
    return ModalityReport(
        features=sequence.width,
        longest_steps=count["longest"],
        padding="none",
        lengths="intervals",
        clips=count["clips"],
        missing=count["missing"],
        corrected=0,
        not_finite=count["not finite"],
    )


def _reason(sequence: ComputationalSequence, video: str, steps: int) -> str:
    if video not in sequence.videos:
        return f"its video is not in {sequence.name}"
    return f"only zeros in {sequence.name}" if steps else f"no step of {sequence.name} within its times"


def _notes(
    reader: _Reader, sequences: Sequences, segments: Sequence[_Segment], reports: Mapping[str, ModalityReport]
) -> Iterator[str]:
    if sequences.unread:
        yield f"not read: {', '.join(sequences.unread)}"
    if reader.left_out:
        shown = ", ".join(sorted(reader.left_out)[:3])
        count = reader.count["without a split"]
        yield f"{count} clips of {len(reader.left_out)} videos ({shown}, …) are in no split and were left out"
    absent = set(reader.folds) - set(reader.labels.videos)
    if absent:
        yield f"{len(absent)} videos of the splits have no labels, such as {', '.join(sorted(absent)[:3])}"
    if reader.count["without a time"]:
        yield f"{reader.count['without a time']} labels have times that end before they start and were left out"
    if reader.count["without labels"]:
        yield f"{reader.count['without labels']} clips have labels that are no numbers and count as unlabelled"
    stretches = Counter((s.video, s.start_seconds, s.end_seconds) for s in segments)
    if len(stretches) < len(segments):
        yield f"{len(segments) - len(stretches)} clips are the same stretch of a video as another"
    for key, report in reports.items():
        if report.missing:
            yield f"{key}: {report.missing} clips lack it"
        if report.not_finite:
            yield f"{key}: {report.not_finite} values were infinite or undefined and are read as 0"
