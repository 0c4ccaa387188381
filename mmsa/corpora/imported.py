"""What every import of ready-made features makes: a folder that is a corpus, whole or not there at all."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mmsa.corpora.cells import cell_of
from mmsa.errors import UsageError
from mmsa.tasks import Label, Task

if TYPE_CHECKING:
    from extractors.sequence import FeatureSequence
    from extractors.spec import ExtractorSpec

ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class ModalityReport:
    """How one modality was read.

    Attributes:
        features: `D`.
        longest_steps: of the clips as read.
        padding: `"left"`, `"right"`, `"none"`, or `"unknown"` where no clip tells (it is then read as right).
        lengths: where they came from: a key of the file, `"text_bert"`, `"zeros"` (cut off), `"ragged"` (nothing is
            padded) or `"intervals"` (cut by time).
        clips: how many have it.
        missing: how many do not.
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


@dataclass(frozen=True)
class ClipRow:
    """One clip as it stands in the table of an imported corpus.

    Attributes:
        id: unique in the corpus.
        split: `"train"`, `"valid"` or `"test"`.
        labels: by task; a task that is not among the keys is unlabelled.
        dialogue: the conversation or video, or "".
        turn: position in it, or "".
        transcript: what is said, or "".
        speaker: who speaks, or "".
        media: path of the clip's file, or "".
        attributes: what else is kept.
    """

    id: str
    split: str
    labels: Mapping[str, Label]
    dialogue: str = ""
    turn: str = ""
    transcript: str = ""
    speaker: str = ""
    media: str = ""
    attributes: Mapping[str, str] | None = None


def checked_name(name: str | None, folder: Path) -> str:
    """The name that a corpus in a folder gets.

    Raises:
        UsageError: it cannot be one, or the folder is there already.
    """
    name = name or folder.name
    if not name or not all(letter.isalnum() or letter in "._-" for letter in name):
        raise UsageError(f"a corpus's name is made of letters, digits, '.', '_' and '-', not {name!r}")
    if folder.exists():
        raise UsageError(f"{folder} is there already: choose another folder, or delete it")
    return name


@contextmanager
def corpus_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the final place, which moves there at the end; an import that fails leaves nothing.

    Args:
        folder: the final place; must not exist.
    """
    parent = folder.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".{folder.name}-????????"):  # of imports that were killed, unless one still runs
        if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=parent))
    try:
        yield partial
        partial.chmod(0o755)  # a temporary folder is its maker's only
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_corpus(
    folder: Path,
    name: str,
    note: str,
    tasks: Sequence[Task],
    rows: Sequence[ClipRow],
    modalities: Sequence[str],
    *,
    default_tasks: Sequence[str] = (),
) -> None:
    """Write `clips.csv` and `clips.yaml`, from which `mmsa.corpora.table` reads the same corpus.

    Args:
        folder: where; a modality's features lie in its `features/<modality>`.
        name: of the corpus.
        note: one sentence that must be read with any number computed on the corpus, or "".
        tasks: what the labels are.
        rows: the clips, in order.
        modalities: those whose features lie in the folder.
        default_tasks: learned when none are asked for; empty is the first alone.
    """
    import yaml

    optional = [c for c in ("dialogue", "turn", "transcript", "speaker", "media") if any(getattr(r, c) for r in rows)]
    attributes = sorted({key for row in rows for key in row.attributes or {}})
    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", *(task.name for task in tasks), *optional, *attributes])
        for row in rows:
            labels = [cell_of(task, row.labels.get(task.name)) for task in tasks]
            own = row.attributes or {}
            cells = [*(getattr(row, column) for column in optional), *(own.get(key, "") for key in attributes)]
            writer.writerow([row.id, row.split, *labels, *cells])
        _sync(file)
    described = {
        "name": name,
        "note": note,
        "tasks": {task.name: {k: v for k, v in task.to_dict().items() if k != "name"} for task in tasks},
        "default_tasks": list(default_tasks) or [tasks[0].name],
        **({"attributes": attributes} if attributes else {}),
        "features": {key: f"features/{key}" for key in modalities},
    }
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    with (folder / "clips.yaml").open("w", encoding="utf-8") as described_file:
        described_file.write(text)
        _sync(described_file)


def write_sequences(
    folder: Path, spec: ExtractorSpec, names: tuple[str, ...], clips: Iterable[tuple[str, FeatureSequence, str]]
) -> None:
    """Write a table of ready-made features that carry their own times; it appears whole or not at all.

    Args:
        folder: where.
        spec: from `mmsa.precomputed.precomputed_spec`.
        names: `D` feature names.
        clips: id, features and, for a clip without steps, why it has none.
    """
    from mmsa.features import table_writer
    from mmsa.precomputed import CLIPS

    ids = []
    with table_writer(folder, spec, names) as writer:
        for clip, sequence, reason in clips:
            writer.add(clip, sequence, None if len(sequence) else reason)
            ids.append(clip)
        (writer.folder / CLIPS).write_text(json.dumps(ids), encoding="utf-8")


def _sync(file: TextIO) -> None:
    """Have what was written reach the disk before the folder takes its name."""
    file.flush()
    os.fsync(file.fileno())
