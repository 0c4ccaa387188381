from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmsa.benchmarking.facts import ClipFacts, CorpusFacts, save_facts
from mmsa.benchmarking.pooled import Key
from mmsa.benchmarking.report import Report, make_report
from mmsa.benchmarking.store import Result, SplitPredictions, save_run
from mmsa.errors import UsageError
from mmsa.recipe import make_recipe

LABELS = np.array([-2, -1, 1, 2, 3, 1], np.float32)
Keep = Callable[..., tuple[Key, Path]]


@pytest.fixture
def keep(tmp_path: Path, result: Result) -> Keep:
    """`(row, seed, miss, **changes of the result)` → the key and folder of a kept training that misses by so much."""

    def make(row: str, seed: int | None, miss: float, **changes: object) -> tuple[Key, Path]:
        outputs = {"sentiment": (LABELS + np.float32(miss))[:, None]}
        split = SplitPredictions(tuple("abcdef"), {"sentiment": LABELS}, outputs)
        folder = tmp_path / "runs" / row / f"made-{seed}"
        own = replace(result, row=row, head=row, seed=seed, run_id=f"{row}{seed}", **changes)  # type: ignore[arg-type]
        save_run(folder, own, split, split)
        return (row, "made", seed), folder

    return make


def report_on(
    out: Path, kept: Sequence[tuple[Key, Path]], facts: Sequence[ClipFacts] = (), **changes: object
) -> Report:
    clips = dict(zip("abcdef", facts, strict=False))
    save_facts(out, "made", CorpusFacts("made", "Made up.", {"train": 4, "valid": 2, "test": 6}, clips))
    recipe = {
        "name": "mine",
        "train": {"corpus": "made"},
        "heads": ["late", "early"],
        "seeds": [1, 2],
        "reference": "late",
        "resamples": 99,
        **changes,
    }
    return make_report(make_recipe(recipe), out, dict(kept), command="mmsa benchmark mine.yaml", failed={})


@pytest.fixture
def both(keep: Keep) -> list[tuple[Key, Path]]:
    return [
        keep("late", 1, 0.5, train_seconds=3.0, epochs=4),
        keep("late", 2, 0.7, train_seconds=9.0, epochs=8),
        keep("early", 1, 0.1),
        keep("early", 2, 0.3),
    ]


def test_ranked_by_the_first_metric(tmp_path: Path, both: list[tuple[Key, Path]]) -> None:
    report = report_on(tmp_path, both)
    assert [row.name for row in report.rows] == ["early", "late"]
    assert report.metrics[0] == "sentiment.mae"  # MOSI's headline metric where the recipe names none
    late = report.rows[1]
    assert late.values["sentiment.mae"].mean == pytest.approx(0.6)
    assert (late.parameters, late.train_seconds, late.epochs) == (1234, 6.0, 6)
    assert late.runs == ("late1", "late2")
    assert report.flat()["late/sentiment.mae"] == pytest.approx(0.6)
    assert report.flat()["late/sentiment.mae.std"] == pytest.approx(np.std([0.5, 0.7], ddof=1))


def test_what_is_missing_is_said(tmp_path: Path, both: list[tuple[Key, Path]]) -> None:
    report = report_on(tmp_path, both[:3])
    assert "early: only 1 of 2 seeds are there." in report.notes
    alone = report_on(tmp_path, both[:2])
    assert [row.name for row in alone.rows] == ["late"]
    assert "early: no run is there." in alone.notes
    with pytest.raises(UsageError, match="nothing of this recipe is in"):
        report_on(tmp_path, [])


@pytest.mark.parametrize(
    ("facts", "cluster", "expected"),
    [
        ([ClipFacts("s", "d1"), ClipFacts("s", "d1"), ClipFacts("t", "d2")], "auto", ("dialogue", 5)),
        ([ClipFacts("s", "d1"), ClipFacts("s", "d1"), ClipFacts("t", "d2")], "speaker", ("speaker", 5)),
        ([ClipFacts("s"), ClipFacts("s"), ClipFacts("s")], "auto", ("speaker", 4)),
        ([ClipFacts("s", "d1")], "clip", ("clip", 6)),
        ([], "auto", ("clip", 6)),
    ],
)
def test_clusters(
    tmp_path: Path,
    both: list[tuple[Key, Path]],
    facts: list[ClipFacts],
    cluster: str,
    expected: tuple[str, int],
) -> None:
    """Six clips; each of which nothing is known is a cluster by itself."""
    report = report_on(tmp_path, both, facts, cluster=cluster)
    assert report.clusters == expected
    assert f"There are only {expected[1]} clusters ({expected[0]}): intervals and p are rough." in report.notes


def test_clusters_that_the_corpus_does_not_know(tmp_path: Path, both: list[tuple[Key, Path]]) -> None:
    with pytest.raises(UsageError, match="no clip of these corpora has a speaker; use auto or clip"):
        report_on(tmp_path, both, cluster="speaker")


def test_a_metric_that_no_row_has(tmp_path: Path, both: list[tuple[Key, Path]]) -> None:
    with pytest.raises(UsageError, match=r"no metric 'sentiment.mea'. Did you mean 'sentiment.mae'"):
        report_on(tmp_path, both, metrics=["sentiment.mea"])


def test_other_versions_are_said(tmp_path: Path, keep: Keep) -> None:
    kept = [keep("late", 1, 0.5), keep("late", 2, 0.5, versions={"torch": "2"})]
    report = report_on(tmp_path, kept, heads=["late"], reference=None)
    assert "The runs were made with different versions of torch." in report.notes
    assert report.versions == {"torch": ("1", "2")}
    assert report.features == {"text": ("text.made (none 1; size 3)",)}
    assert [facts.note for facts in report.corpora] == ["Made up."]
