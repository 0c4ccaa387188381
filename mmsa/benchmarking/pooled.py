"""Kept predictions of one row, the corpora of a setting put together, seed by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsa.benchmarking.facts import ClipFacts, CorpusFacts
from mmsa.benchmarking.store import Result, SplitPredictions, Values, load_result
from mmsa.errors import UsageError
from mmsa.tasks import Task

Key = tuple[str, str, int | None]
"""Row, corpus and seed."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """What a row said about the test clips.

    Attributes:
        tasks: what was predicted.
        clips: `N` names, unique.
        facts: of each clip.
        labels: per task, NaN where unlabelled.
        seeds: those of which every corpus is there; `(None,)` for a head that has none.
        outputs: per seed and task `(N, output_dim)`.
        subsets: per seed, modalities at hand and task.
        results: every training, in the order of corpora and seeds.
    """

    tasks: tuple[Task, ...]
    clips: tuple[str, ...]
    facts: tuple[ClipFacts, ...]
    labels: Mapping[str, Values]
    seeds: tuple[int | None, ...]
    outputs: tuple[Mapping[str, Values], ...]
    subsets: tuple[Mapping[str, Mapping[str, Values]], ...]
    results: tuple[Result, ...]

    def task(self, name: str) -> Task | None:
        """The task of this name; None where the row has no such task."""
        return next((task for task in self.tasks if task.name == name), None)

    def on(self, clips: Sequence[str]) -> NDArray[np.int64] | None:
        """Positions of other names of the same clips; None where they are not the same ones."""
        place = {clip: i for i, clip in enumerate(self.clips)}
        if len(clips) != len(place) or not all(clip in place for clip in clips):
            return None
        return np.array([place[clip] for clip in clips], np.int64)


def pool(
    row: str,
    corpora: Sequence[str],
    seeds: Sequence[int | None],
    folders: Mapping[Key, Path],
    facts: Mapping[str, CorpusFacts],
) -> Pooled | None:
    """Put a row's predictions together; None where no seed has all corpora.

    Args:
        row: its name.
        corpora: of the setting.
        seeds: asked for.
        folders: of the trainings that are there.
        facts: by corpus.

    Raises:
        UsageError: the corpora do not have the same tasks.
    """
    whole = [seed for seed in seeds if all((row, corpus, seed) in folders for corpus in corpora)]
    if not whole:
        return None
    found = {key: _read(folders[row, key[0], key[1]]) for key in ((c, s) for c in corpora for s in whole)}
    results = [result for result, _ in found.values()]
    tasks = results[0].read_tasks()
    if any(result.read_tasks() != tasks for result in results):
        raise UsageError(f"row {row!r}: the corpora {', '.join(corpora)} have different tasks and cannot be pooled")
    first = [found[corpus, whole[0]][1] for corpus in corpora]
    names = [(corpus, clip) for corpus, split in zip(corpora, first, strict=True) for clip in split.clips]
    counts = Counter(clip for _, clip in names)
    return Pooled(
        tasks=tasks,
        clips=tuple(clip if counts[clip] == 1 else f"{corpus}/{clip}" for corpus, clip in names),
        facts=tuple(facts[corpus].clips.get(clip, ClipFacts()) for corpus, clip in names),
        labels={task.name: np.concatenate([split.labels[task.name] for split in first]) for task in tasks},
        seeds=tuple(whole),
        outputs=tuple(_join([found[c, seed][1].outputs for c in corpora], tasks) for seed in whole),
        subsets=tuple(_join_subsets([found[c, seed][1].subsets for c in corpora], tasks) for seed in whole),
        results=tuple(results),
    )


def _read(folder: Path) -> tuple[Result, SplitPredictions]:
    result = load_result(folder)
    if result is None:
        raise UsageError(f"{folder} holds no training")
    return result, SplitPredictions.load(folder / "test.npz")


def _join(parts: Sequence[Mapping[str, Values]], tasks: Sequence[Task]) -> dict[str, Values]:
    return {task.name: np.concatenate([part[task.name] for part in parts]) for task in tasks}


def _join_subsets(
    parts: Sequence[Mapping[str, Mapping[str, Values]]], tasks: Sequence[Task]
) -> dict[str, dict[str, Values]]:
    shared = [subset for subset in parts[0] if all(subset in part for part in parts)]
    return {subset: _join([part[subset] for part in parts], tasks) for subset in shared}
