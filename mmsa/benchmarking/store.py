"""What a benchmark leaves on the disk: one folder per training, whole or not there.

    OUT/runs/<row>/<corpus>-seed<n>-<digest>/result.json, valid.npz, test.npz
    OUT/corpora/<corpus>.json     what the report must know of the clips; no transcripts
    OUT/tables/<recipe>.md, …     see `mmsa.benchmarking.report`

A folder's name ends in a digest of what was trained on what, so that nothing is overwritten: a changed setting is
trained anew, and an old one is found again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.config import TrainConfig
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.recipe import HeadEntry
from mmsa.tasks import Task, task_from_dict

FORMAT = 1
INDIFFERENT = {"root", "device", "resident_mb", "checkpoints", "checkpoint_steps", "jobs", "experiment"}
"""Settings that change no number, or whose effect the digest of the clips holds."""

Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """What one training said about one split.

    Attributes:
        clips: `N` ids.
        labels: per task `(N,)` or `(N, C)`, NaN where unlabelled.
        outputs: per task `(N, output_dim)`, with every modality at hand.
        subsets: the same by modalities at hand, joined with `"+"`, where there are several.
    """

    clips: tuple[str, ...]
    labels: Mapping[str, Values]
    outputs: Mapping[str, Values]
    subsets: Mapping[str, Mapping[str, Values]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write one compressed archive of plain arrays."""
        arrays: dict[str, Any] = {"clips": np.array(self.clips, np.str_)}
        arrays.update({f"label/{task}": value for task, value in self.labels.items()})
        arrays.update({f"output/{task}": value for task, value in self.outputs.items()})
        for subset, outputs in self.subsets.items():
            arrays.update({f"subset/{subset}/{task}": value for task, value in outputs.items()})
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path) -> SplitPredictions:
        """Read what `save` wrote; nothing in it is run."""
        labels: dict[str, Values] = {}
        outputs: dict[str, Values] = {}
        subsets: dict[str, dict[str, Values]] = {}
        with np.load(path, allow_pickle=False) as data:
            for key in data.files:
                kind, _, name = key.partition("/")
                if kind == "label":
                    labels[name] = data[key]
                elif kind == "output":
                    outputs[name] = data[key]
                elif kind == "subset":
                    subset, _, task = name.partition("/")
                    subsets.setdefault(subset, {})[task] = data[key]
            return cls(tuple(data["clips"].tolist()), labels, outputs, subsets)


@dataclass(frozen=True)
class Result:
    """One finished training.

    Attributes:
        row: name in the leaderboard.
        head: short name of the head.
        corpus: its name.
        seed: of the training; None for a head that has none.
        identity: of the clips and their features.
        run_id: MLflow's.
        modalities: what was read.
        tasks: as `Task.to_dict` writes them.
        features: spec of each modality's features, without hints.
        settings: all of `TrainConfig`, and the head's options.
        parameters: numbers that were learned.
        epochs: how many were trained.
        best_epoch: which was kept.
        train_seconds: of the training alone.
        choice: what a head without epochs chose on the validation split, by task.
        machine: what it was trained on; no name of it.
        versions: of mmsa and the libraries.
    """

    row: str
    head: str
    corpus: str
    seed: int | None
    identity: str
    run_id: str
    modalities: tuple[str, ...]
    tasks: tuple[Mapping[str, Any], ...]
    features: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    parameters: int
    epochs: int
    best_epoch: int
    train_seconds: float
    choice: Mapping[str, Any]
    machine: str
    versions: Mapping[str, str]
    format: int = FORMAT

    def read_tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order of the outputs."""
        return tuple(task_from_dict(task) for task in self.tasks)


def settings_of(entry: HeadEntry, config: TrainConfig) -> dict[str, Any]:
    """Everything of a row and its configuration that can change a number, as plain JSON values."""
    settings = json.loads(json.dumps(config.model_dump(mode="json", exclude=INDIFFERENT), default=str))
    if entry.classical:  # it has no fusion head, no epochs and no seed
        kept = ("corpus", "modalities", "tasks", "extractors", "grid", "words")
        settings = {key: settings[key] for key in kept} | {"head": dict(entry.options)}
    return {"name": entry.head, **settings}


def digest_of(value: Any) -> str:
    """Sixteen hexadecimal digits of any JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def same_settings(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a kept training had these settings.

    A setting that mmsa did not have yet when it was trained counts as having had its default.
    """
    defaults = TrainConfig().model_dump(mode="json")
    own = {key: kept.get(key, defaults.get(key)) for key in wanted}
    return set(kept) <= set(wanted) and own == dict(wanted)


def identity_of(corpus: Corpus, fingerprints: Mapping[str, str]) -> str:
    """What a training depends on beside settings and code: clips with their labels and splits, and features.

    Args:
        corpus: the clips.
        fingerprints: of each modality's features.
    """
    clips = [
        [clip.id, clip.split, dict(clip.labels), clip.transcript, *_media(clip), *_times(clip)] for clip in corpus.clips
    ]
    return digest_of([clips, dict(fingerprints)])


def _times(clip: Clip) -> list[Any]:
    """Of words, where speech models gave some."""
    return [] if clip.timed is None else [asdict(clip.timed)]


def _media(clip: Clip) -> list[Any]:
    sizes = [file.stat().st_size for file in clip.files if file.is_file()]
    return [clip.start_seconds, clip.end_seconds, sum(sizes) if sizes else None]


def run_folder(out: Path, row: str, corpus: str, seed: int | None, settings: Mapping[str, Any], identity: str) -> Path:
    """Where a training is kept."""
    return out / "runs" / row / f"{_prefix(corpus, seed)}{digest_of([settings, identity])}"


def _prefix(corpus: str, seed: int | None) -> str:
    return f"{plain_name(corpus)}{'' if seed is None else f'-seed{seed}'}-"


def plain_name(name: str) -> str:
    """A corpus's name, which may be a path, as the name of a file."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def save_run(folder: Path, result: Result, valid: SplitPredictions, test: SplitPredictions) -> None:
    """Keep a training; the folder appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        valid.save(partial / "valid.npz")
        test.save(partial / "test.npz")
        with write_atomically(partial / "result.json") as file:
            file.write(json.dumps(asdict(result), indent=1, sort_keys=True) + "\n")
        partial.chmod(0o755)
        if folder.is_dir():  # another process was faster: both are of the same settings on the same clips
            return
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def write_atomically(path: Path) -> Iterator[Any]:
    """A text file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_result(folder: Path) -> Result | None:
    """A kept training; None where there is none.

    Raises:
        UsageError: it was written by another version of mmsa.
    """
    path = folder / "result.json"
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("format") != FORMAT:
        raise UsageError(f"{folder} was written by another version of mmsa: move it away, or give another --output")
    data.update(modalities=tuple(data["modalities"]), tasks=tuple(data["tasks"]))
    return Result(**data)


def find_run(
    out: Path, row: str, corpus: str, seed: int | None, settings: Mapping[str, Any], identity: str | None = None
) -> Path | None:
    """The folder of the newest kept training with these settings.

    Args:
        out: the output folder.
        row: the row's `slug`.
        corpus: as the settings name it.
        seed: None for a head that has none.
        settings: from `settings_of`.
        identity: from `identity_of`; None takes any clips and features.
    """
    found = []
    for folder in (out / "runs" / row).glob(f"{_prefix(corpus, seed)}*"):
        result = load_result(folder)
        if result is None or (result.corpus, result.seed) != (corpus, seed):
            continue
        if identity in (None, result.identity) and same_settings(result.settings, settings):
            found.append((folder.stat().st_mtime_ns, folder))
    return max(found)[1] if found else None
