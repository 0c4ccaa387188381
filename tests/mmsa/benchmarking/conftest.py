from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.benchmarking.facts import ClipFacts
from mmsa.benchmarking.pooled import Pooled
from mmsa.benchmarking.store import Result
from mmsa.recipe import Recipe, make_recipe
from mmsa.tasks import Task

COUNTS = {"train": 24, "valid": 8, "test": 10}

DESCRIPTION = """
tasks:
  sentiment: {kind: regression, low: -3, high: 3, metrics: mosi}
  emotion: {kind: classification, classes: [low, high]}
arrays: {eeg: eeg_file}
attributes: [congruent]
note: Made up.
"""


def write_table(folder: Path) -> Path:
    """High clips say long words and have a high EEG, low ones the opposite; one test clip has no EEG."""
    rng = np.random.default_rng(0)
    rows = []
    for split, count in COUNTS.items():
        for i in range(count):
            high = i % 2
            name = f"{split}{i:02}"
            np.save(folder / f"{name}.npy", rng.normal(2.0 * high, 0.3, (1 + i % 3, 2)))
            rows.append(
                {
                    "id": name,
                    "split": split,
                    "sentiment": (2.0 if high else -2.0) + i % 3 / 2,
                    "emotion": ("low", "high")[high],
                    "transcript": " ".join([("so", "wonderful")[high]] * (1 + i % 4)),
                    "speaker": f"s{i % 4}",
                    "dialogue": f"{split}-{i // 2}",
                    "eeg_file": "" if (split, i) == ("test", 3) else f"{name}.npy",
                    "congruent": ("yes", "no")[i % 5 == 0],
                }
            )
    table = folder / "mine.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "mine.yaml").write_text(DESCRIPTION, encoding="utf-8")
    return table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A corpus of 42 clips with words and an EEG, as a table."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    return write_table(folder)


@pytest.fixture
def recipe_on(table: Path, small: Any) -> Callable[..., Recipe]:
    """`(**changes)` → a recipe of quick trainings on `table`."""
    train = {
        "corpus": str(table),
        "extractors": {"text": {"name": "small_extractors:WordLengths"}},
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.05,
        "device": "cpu",
        "jobs": 1,
    }

    def make(**changes: Any) -> Recipe:
        data = {
            "name": "mine",
            "heads": [{"head": "late", "options": {"hidden_dim": 4}}, "svm"],
            "seeds": [1, 2],
            "reference": "late",
            "resamples": 99,
            **changes,
        }
        return make_recipe({**data, "train": {**train, **changes.get("train", {})}})

    return make


@pytest.fixture
def result() -> Result:
    """A training that took half a second."""
    return Result(
        row="late",
        head="late",
        corpus="made",
        seed=1,
        identity="i",
        run_id="r1",
        modalities=("audio", "text"),
        tasks=({"kind": "regression", "name": "sentiment", "low": -3.0, "high": 3.0, "metrics": "mosi"},),
        features={"text": {"name": "text.made", "tool": "none", "version": "1", "parameters": {"size": 3}}},
        settings={"name": "late", "epochs": 7},
        parameters=1234,
        epochs=7,
        best_epoch=4,
        train_seconds=0.5,
        choice={},
        machine="2 cores, made up",
        versions={"torch": "1"},
    )


MakePooled = Callable[..., Pooled]


@pytest.fixture
def make_pooled(result: Result) -> MakePooled:
    """`(task, labels, outputs per seed, facts, clips, subsets)` → a row's predictions."""

    def make(
        task: Task,
        labels: np.ndarray,
        outputs: Sequence[np.ndarray],
        facts: Sequence[ClipFacts] | None = None,
        clips: Sequence[str] | None = None,
        subsets: Sequence[dict[str, dict[str, np.ndarray]]] | None = None,
    ) -> Pooled:
        names = tuple(clips or [f"c{i}" for i in range(len(labels))])
        return Pooled(
            tasks=(task,),
            clips=names,
            facts=tuple(facts or [ClipFacts()] * len(labels)),
            labels={task.name: np.asarray(labels, np.float32)},
            seeds=tuple(range(1, len(outputs) + 1)),
            outputs=tuple({task.name: np.asarray(own, np.float32)} for own in outputs),
            subsets=tuple(subsets or [{}] * len(outputs)),
            results=(result,) * len(outputs),
        )

    return make
