from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmsa.config import TrainConfig

Mmsa = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recipe(untrained: TrainConfig, workspace: Path) -> Path:
    """The small corpus, two epochs, one setting to search."""
    extractors = {key: choice.model_dump() for key, choice in untrained.extractors.items()}
    train: dict[str, Any] = {
        "corpus": "small",
        "root": str(untrained.root),
        "modalities": ["audio", "text"],
        "extractors": extractors,
        "epochs": 2,
        "jobs": 1,
        "device": "cpu",
    }
    path = workspace / "small.yaml"
    search = {"parameters": {"learning_rate": {"low": 0.001, "high": 0.1, "log": True}}, "trials": 2}
    path.write_text(yaml.safe_dump({"train": train, "heads": ["late", "early"], "search": search}), encoding="utf-8")
    return path


def test_json_prints_one_line_per_head(run_mmsa: Mmsa, recipe: Path) -> None:
    code, out, err = run_mmsa("sweep", recipe, "--json", "--output", "found")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["row"], len(row["trials"]), row["measure"]) for row in rows] == [
        ("late", 2, "loss"),
        ("early", 2, "loss"),
    ]
    assert rows[0]["best"]["value"] == min(trial["value"] for trial in rows[0]["trials"])
    assert rows[0]["start"] == {"learning_rate": 0.001}
    assert Path("found/best.yaml").is_file()
    for line in ("late, trial 0: loss ", "early, trial 1: loss "):
        assert line in err


def test_the_table_shows_what_was_found_and_how_to_use_it(run_mmsa: Mmsa, recipe: Path) -> None:
    code, out, _ = run_mmsa("sweep", recipe, "--heads", "late", "--trials", "1", "--set", "batch_size=4")
    assert code == 0
    assert "late on small: validation split" in out
    assert "1 trials, 0 of them stopped early" in out
    assert "mmsa train --config mlruns/sweeps/small/best_late.yaml" in out
    assert "mmsa benchmark mlruns/sweeps/small/best.yaml" in out
    (line,) = [line for line in out.splitlines() if "learning_rate" in line]
    assert line.split()[3::2][:2] == ["0.001", "0.001"]  # the only trial is the recipe's own
    assert "batch_size: 4" in Path("mlruns/sweeps/small/best_late.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.yaml"], "cannot read the recipe gone.yaml"),
        (["small.yaml", "--heads", "lte"], "there is no row 'lte'. Did you mean 'late'?"),
        (["small.yaml", "--set", "epoch=3"], "epoch: unknown key; did you mean 'epochs'?"),
        (["small.yaml", "--storage", "nowhere"], "the storage nowhere cannot be opened"),
    ],
    ids=str,
)
def test_what_cannot_be_done_ends_with_a_message(run_mmsa: Mmsa, recipe: Path, words: list[str], message: str) -> None:
    code, out, err = run_mmsa("sweep", *words)
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert message in err
