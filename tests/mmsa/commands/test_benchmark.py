from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Mmsa = Callable[..., tuple[int, str, str]]

RECIPE = """
train:
  corpus: {corpus}
  extractors: {{text: {{name: "small_extractors:WordLengths"}}}}
  epochs: 2
  batch_size: 8
  device: cpu
  jobs: 1
heads:
  - {{head: late, options: {{hidden_dim: 4}}}}
  - {{head: early, name: diverges, train: {{learning_rate: 1.0e+30, clip_norm: 1.0e+30}}}}
  - {{head: svm, options: {{kernels: [linear], costs: [1]}}}}
seeds: [1, 2]
reference: late
metrics: [sentiment.mae, sentiment.corr]
resamples: 99
"""


@pytest.fixture
def recipe(workspace: Path, tmp_path: Path, small: Any) -> Path:
    """A recipe on 30 clips of words, with a row that cannot be trained."""
    rng = np.random.default_rng(0)
    lines = ["id,split,sentiment,transcript"]
    for split, count in (("train", 16), ("valid", 6), ("test", 8)):
        for i in range(count):
            words = " ".join(["wonderful" if i % 2 else "so"] * (1 + i % 3))
            lines.append(f"{split}{i},{split},{(1 if i % 2 else -1) + rng.normal(0, 0.2):.3f},{words}")
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("tasks:\n  sentiment: {kind: regression, low: -3, high: 3}\n", encoding="utf-8")
    path = workspace / "words.yaml"
    path.write_text(RECIPE.format(corpus=tmp_path / "mine.csv"), encoding="utf-8")
    return path


def test_a_recipe_from_the_command_line(run_mmsa: Mmsa, recipe: Path) -> None:
    code, out, err = run_mmsa("benchmark", recipe, "--jobs", 1)
    assert code == 1  # one row failed, and the others are there
    assert "[5/5] svm on " in err
    assert "Failed: diverges on " in err
    assert "not finite" in err
    assert "3 trained, 0 were there already. Tables: benchmarks-out/words/tables" in out
    markdown = Path("benchmarks-out/words/tables/words.md").read_text(encoding="utf-8")
    assert f"`mmsa benchmark {recipe} --jobs 1`" in markdown
    for name in ("late", "svm"):
        assert name in out
        assert f"| {name} |" in markdown

    # Without the row that fails, nothing is left to train, and all is well.
    code, out, err = run_mmsa("benchmark", recipe, "--heads", "late,svm", "--jobs", 1)
    assert (code, "0 trained, 3 were there already" in out) == (0, True)
    assert err == ""

    # The machine's answer holds what the table says.
    code, out, _ = run_mmsa("benchmark", recipe, "--report-only", "--heads", "late,svm", "--json")
    data = json.loads(out)
    with Path("benchmarks-out/words/tables/words.csv").open(encoding="utf-8", newline="") as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    assert code == 0
    for row in data["rows"]:
        assert float(lines[row["name"]]["sentiment.mae"]) == pytest.approx(row["values"]["sentiment.mae"]["mean"], 1e-5)
    test = {row["name"]: row["values"]["sentiment.mae"]["test"] for row in data["rows"]}
    assert test["late"] is None
    assert 0 < test["svm"]["p"] <= 1


def test_seeds_and_settings_of_the_command_line(run_mmsa: Mmsa, recipe: Path) -> None:
    words = (
        "benchmark",
        recipe,
        "--heads",
        "late",
        "--seeds",
        "3",
        "--set",
        "epochs=1",
        "--output",
        "out",
        "--jobs",
        1,
    )
    code, out, _ = run_mmsa(*words)
    assert (code, "1 trained" in out) == (0, True)
    (result,) = Path("out").glob("runs/late/*-seed3-*/result.json")
    assert json.loads(result.read_text(encoding="utf-8"))["epochs"] == 1
    assert "reference" not in out  # the reference row alone is tested against nothing


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nonesuch.yaml"], "cannot read the recipe nonesuch.yaml"),
        (["words.yaml", "--heads", "lat"], "there is no row 'lat'. Did you mean 'late'?"),
        (["words.yaml", "--seeds", "1,1"], "--seeds takes each number once"),
        (["words.yaml", "--set", "epoch=1"], "did you mean 'epochs'?"),
        (["words.yaml", "--set", "seed=1"], "a recipe says this under seeds"),
        (["words.yaml", "--report-only"], "run it without --report-only first"),
    ],
)
def test_what_cannot_be_done(run_mmsa: Mmsa, recipe: Path, words: list[str], told: str) -> None:
    code, _, err = run_mmsa("benchmark", *words)
    assert code == 2
    assert told in err
