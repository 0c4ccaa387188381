from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmsa.benchmarking.facts import ClipFacts, CorpusFacts
from mmsa.benchmarking.pooled import Key, pool
from mmsa.benchmarking.store import Result, SplitPredictions, save_run
from mmsa.errors import UsageError

FACTS = {
    "one": CorpusFacts("one", "", {}, {"a": ClipFacts("s1"), "b": ClipFacts("s2")}),
    "two": CorpusFacts("two", "", {}, {"a": ClipFacts("s3")}),
}


def keep(folder: Path, result: Result, clips: tuple[str, ...], values: list[float], subset: str | None = None) -> Path:
    outputs = {"sentiment": np.array(values, np.float32)[:, None]}
    subsets = {} if subset is None else {subset: outputs}
    split = SplitPredictions(clips, {"sentiment": np.arange(len(clips), dtype=np.float32)}, outputs, subsets)
    save_run(folder, result, split, split)
    return folder


@pytest.fixture
def folders(tmp_path: Path, result: Result) -> dict[Key, Path]:
    """Seeds 1 and 2 on corpus one, seed 1 alone on corpus two."""
    made = {
        ("late", "one", 1): keep(tmp_path / "1", result, ("a", "b"), [1, 2], "text"),
        ("late", "one", 2): keep(tmp_path / "2", result, ("a", "b"), [3, 4], "text"),
        ("late", "two", 1): keep(tmp_path / "3", replace(result, corpus="two"), ("a",), [5], "audio"),
    }
    return dict(made)


def test_one_corpus(folders: dict[Key, Path]) -> None:
    found = pool("late", ["one"], [1, 2], folders, FACTS)
    assert found is not None
    assert (found.clips, found.seeds, len(found.results)) == (("a", "b"), (1, 2), 2)
    assert [own["sentiment"].ravel().tolist() for own in found.outputs] == [[1, 2], [3, 4]]
    assert [own["text"]["sentiment"].ravel().tolist() for own in found.subsets] == [[1, 2], [3, 4]]
    assert [facts.speaker for facts in found.facts] == ["s1", "s2"]


def test_corpora_are_put_together_for_seeds_that_have_them_all(folders: dict[Key, Path]) -> None:
    found = pool("late", ["one", "two"], [1, 2], folders, FACTS)
    assert found is not None
    assert found.seeds == (1,)
    assert found.clips == ("one/a", "b", "two/a")  # two corpora have a clip "a"
    assert found.outputs[0]["sentiment"].ravel().tolist() == [1, 2, 5]
    assert found.labels["sentiment"].tolist() == [0, 1, 0]
    assert [facts.speaker for facts in found.facts] == ["s1", "s2", "s3"]
    assert found.subsets == ({},)  # no subset is there for all


def test_nothing_whole_is_nothing(folders: dict[Key, Path]) -> None:
    assert pool("late", ["two"], [2], folders, FACTS) is None
    assert pool("early", ["one"], [1, 2], folders, FACTS) is None


def test_other_tasks_cannot_be_pooled(folders: dict[Key, Path], tmp_path: Path, result: Result) -> None:
    other = {**result.tasks[0], "high": 5.0}
    folders["late", "two", 1] = keep(tmp_path / "4", replace(result, tasks=(other,)), ("a",), [5])
    with pytest.raises(UsageError, match="the corpora one, two have different tasks"):
        pool("late", ["one", "two"], [1], folders, FACTS)


def test_positions_of_the_same_clips_in_another_order(folders: dict[Key, Path]) -> None:
    found = pool("late", ["one"], [1], folders, FACTS)
    assert found is not None
    order = found.on(("b", "a"))
    assert order is not None
    assert order.tolist() == [1, 0]
    assert found.on(("a",)) is None
    assert found.on(("a", "c")) is None
