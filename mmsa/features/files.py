"""Features of media files that belong to no corpus: one `.safetensors` file beside each other, readable anywhere.

A file holds `<modality>.values` `(T, D)` and `<modality>.times` `(T, 2)` for every modality. Its metadata is one entry,
`mmsa`, as several would stand in a random order: a JSON object with `names`, `specs` and `missing` (by modality),
`duration_seconds`, `notes`, `format` and `identity`, a digest of all that decided the features.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from extractors.cores import usable_cores
from extractors.sequence import FeatureSequence
from mmsa.errors import UsageError
from mmsa.features.extraction import in_processes
from mmsa.features.media import MediaIdentity, identify_media
from mmsa.features.table import StoreDtype, check_dtype, encode, sync, sync_folder
from mmsa.languages import mismatches
from mmsa.sidecars import read_sidecar
from mmsa.words import WordOptions, word_source

if TYPE_CHECKING:
    from extractors import Extraction, Transcript
    from extractors.base import Extractor

FORMAT = "mmsa.features/1"
SUFFIX = ".safetensors"
SOUND_SUFFIXES = (".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma")
VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"),
    *(".webm", ".wmv"),
)


@dataclass(frozen=True)
class FileFeatures:
    """What became of one media file.

    Attributes:
        path: the media file.
        output: the file with its features.
        kept: whether it was there already, made of the same media by the same extractors.
        error: why there is none, or None.
        steps: by modality.
        missing: why a modality has no steps.
        notes: oddities of the media.
    """

    path: Path
    output: Path
    kept: bool = False
    error: str | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        if self.error is not None:
            return {"path": str(self.path), "error": self.error}
        return {
            "path": str(self.path),
            "output": str(self.output),
            "kept": self.kept,
            "steps": dict(self.steps),
            "missing": dict(self.missing),
            "notes": list(self.notes),
        }


def media_files(folder: Path) -> list[Path]:
    """The media files in a folder and the folders in it, by their suffix; hidden ones are left out.

    Raises:
        UsageError: there is none.
    """
    known = {*SOUND_SUFFIXES, *VIDEO_SUFFIXES}
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in known
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    )
    if not found:
        named = " ".join(sorted(known))
        raise UsageError(f"{folder} holds neither a corpus nor media files (those end in {named})")
    return found


def extract_files(
    paths: Sequence[Path],
    root: Path,
    output: Path,
    extractors: Mapping[str, Extractor],
    *,
    jobs: int | None = None,
    store_dtype: str = "float32",
    words: WordOptions | None = None,
    device: str = "auto",
) -> Iterator[FileFeatures]:
    """Write the features of media files, each file's when it is done; what is there already is kept.

    What is said is read from a `.srt`, `.vtt`, `.ass` or `.txt` beside a file.

    Args:
        paths: media files.
        root: a folder that they lie in.
        output: the features of `root/a/b.mp4` go to `output/a/b.mp4.safetensors`.
        extractors: by modality.
        jobs: processes; None is one per core.
        store_dtype: how values are kept.
        words: what is done for files without a transcript, and for transcripts without times.
        device: see `mmsa.features.load_features`.

    Raises:
        UsageError: a model that `words` names cannot be had.

    Yields:
        What became of each, in order; a file that cannot be used has an `error`.
    """
    dtype, media = check_dtype(store_dtype), identify_media(paths)
    words = words or WordOptions()
    made_by = word_source(words).identity
    tasks = [
        replace(
            _task(path, output / path.relative_to(root), media[path], dtype, extractors, made_by),
            words=words,
            device=device,
        )
        for path in paths
    ]
    kept = {i: found for i, task in enumerate(tasks) if (found := _kept(task)) is not None}
    todo = [task for i, task in enumerate(tasks) if i not in kept]
    workers = min(jobs or usable_cores(), len(todo))
    if workers > 1:
        made = in_processes(_make, [(str(task.path), task) for task in todo], extractors, workers, device)
    else:
        made = (_make(task, extractors) for task in todo)
    for i in range(len(tasks)):
        yield kept[i] if i in kept else next(made)


@dataclass(frozen=True)
class _Task:
    path: Path
    output: Path
    dtype: StoreDtype
    identity: str
    transcript: Transcript | None
    error: str | None = None
    words: WordOptions = field(default_factory=WordOptions)
    device: str = "auto"


def _task(
    path: Path,
    place: Path,
    media: MediaIdentity,
    dtype: StoreDtype,
    extractors: Mapping[str, Extractor],
    made_by: Mapping[str, Any],
) -> _Task:
    output, error, transcript = place.with_name(place.name + SUFFIX), None, None
    try:
        transcript = read_sidecar(path)
    except UsageError as reason:
        error = str(reason)
    said = _said(transcript) if transcript else None
    fingerprints = {key: extractor.spec.fingerprint for key, extractor in sorted(extractors.items())}
    decided = json.dumps([FORMAT, media.content, said, fingerprints, dtype, *([made_by] if made_by else [])])
    return _Task(path, output, dtype, hashlib.sha256(decided.encode()).hexdigest(), transcript, error)


def _said(transcript: Transcript) -> list[list[Any]]:
    """What an extractor of text sees of a transcript."""
    return [
        [s.text, s.start_seconds, s.end_seconds, *([[w.start_seconds, w.end_seconds] for w in s.words])]
        for s in transcript.segments
    ]


def _kept(task: _Task) -> FileFeatures | None:
    if task.error is not None or not task.output.is_file():
        return None
    try:
        sequences, metadata = read_features(task.output)
    except UsageError:
        return None
    if metadata["identity"] != task.identity:
        return None
    return _told(task, sequences, metadata["missing"], metadata["notes"], kept=True)


def _told(
    task: _Task,
    sequences: Mapping[str, FeatureSequence],
    missing: Mapping[str, str],
    notes: Sequence[str],
    *,
    kept: bool = False,
) -> FileFeatures:
    steps = {key: len(sequence) for key, sequence in sequences.items()}
    return FileFeatures(task.path, task.output, kept, None, steps, missing, tuple(notes))


def _make(task: _Task, extractors: Mapping[str, Extractor]) -> FileFeatures:
    import extractors as ex

    if task.error is not None:
        return FileFeatures(task.path, task.output, error=task.error)
    try:
        transcript, told = word_source(task.words).find(task.path, task.transcript or ex.Transcript(), (None, None))
        found = ex.extract(task.path, extractors, transcript=transcript, device=task.device)
        found = replace(found, notes=(*found.notes, *told, *mismatches(extractors, transcript.language)))
        _write(task, found, {key: extractor.spec.to_dict() for key, extractor in extractors.items()})
    except (ex.MediaError, UsageError) as error:
        return FileFeatures(task.path, task.output, error=str(error).removeprefix(f"{task.path}: "))
    return _told(task, found.sequences, found.missing, found.notes)


def _write(task: _Task, found: Extraction, specs: Mapping[str, Any]) -> None:
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for key, sequence in found.sequences.items():
        values, _ = encode(sequence, task.dtype, task.path.name)
        tensors[f"{key}.values"] = np.frombuffer(values, task.dtype).reshape(sequence.values.shape)
        tensors[f"{key}.times"] = np.ascontiguousarray(sequence.times)
    metadata = {
        "format": FORMAT,
        "identity": task.identity,
        "names": {key: sequence.names for key, sequence in found.sequences.items()},
        "specs": specs,
        "missing": found.missing,
        "duration_seconds": found.duration_seconds,
        "notes": found.notes,
    }
    task.output.parent.mkdir(parents=True, exist_ok=True)
    partial = task.output.with_name(f".{task.output.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(save(tensors, {"mmsa": json.dumps(metadata)}))
            sync(file)
        partial.replace(task.output)
        sync_folder(task.output.parent)
    finally:
        partial.unlink(missing_ok=True)


def read_features(path: Path | str) -> tuple[dict[str, FeatureSequence], dict[str, Any]]:
    """Read what `extract_files` wrote.

    Returns:
        Float32 sequences by modality, and the metadata.

    Raises:
        UsageError: it is no such file.
    """
    from safetensors import SafetensorError, safe_open

    sequences: dict[str, FeatureSequence] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(json.loads((file.metadata() or {})["mmsa"]))
            if metadata["format"] != FORMAT:
                raise UsageError(f"{path} was written by another version of mmsa: extract it again")
            for key, own in metadata["names"].items():
                values, times = file.get_tensor(f"{key}.values"), file.get_tensor(f"{key}.times")
                sequences[key] = FeatureSequence(values.astype(np.float32), times, tuple(own))
    except UsageError:
        raise
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UsageError(f"{path} is no file of features: {error}") from error
    return sequences, metadata
