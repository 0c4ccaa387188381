from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmsa.corpora.description import read_description
from mmsa.errors import UsageError
from mmsa.tasks import Classification, MultiLabel, Regression

TASKS: dict[str, Any] = {
    "score": {"kind": "regression", "low": 0, "high": 24},
    "mood": {"kind": "classification", "classes": ["calm", "glad"]},
    "signs": {"kind": "multi-label", "classes": ["smile", "nod", "frown"]},
}


def describe(folder: Path, **data: Any) -> Path:
    (folder / "mine.csv").touch()
    (folder / "mine.json").write_text(json.dumps(data), encoding="utf-8")
    return folder / "mine.csv"


def test_every_kind_of_task_is_described(tmp_path: Path) -> None:
    assert read_description(describe(tmp_path, tasks=TASKS)).task_list() == (
        Regression("score", 0.0, 24.0, "plain"),
        Classification("mood", ("calm", "glad")),
        MultiLabel("signs", ("smile", "nod", "frown")),
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_task_s_own_words_describe_it(tmp_path: Path, task: str) -> None:
    """What `to_dict` says is what a description takes, but for the name."""
    (read,) = read_description(describe(tmp_path, tasks={task: TASKS[task]})).task_list()
    own = {key: value for key, value in read.to_dict().items() if key != "name"}
    assert read_description(describe(tmp_path, tasks={task: own})).task_list() == (read,)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kind": "multi-label", "classes": ["a"]}, "at least 2 items"),
        ({"kind": "multi-label", "classes": ["a", "a"]}, "must each be named once"),
        ({"kind": "multi-label", "classes": ["a|b", "c"]}, "a name without '|' other than '-', unlike 'a|b'"),
        ({"kind": "multi-label", "classes": ["a", "-"]}, "unlike '-'"),
        ({"kind": "multi-label", "classes": ["a", ""]}, "unlike ''"),
        ({"kind": "several", "classes": ["a", "b"]}, "'regression', 'classification', 'multi-label'"),
        ({"kind": "regression", "low": 1, "high": 1}, "low must lie below high, not 1.0 and 1.0"),
        ({"kind": "regression", "low": 0, "high": 1, "metrics": "mosei"}, "'mosi', 'sims', 'simsv2' or 'plain'"),
    ],
)
def test_what_is_no_task_is_refused(tmp_path: Path, task: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_description(describe(tmp_path, tasks={"mine": task}))
    assert message in str(caught.value)


def test_a_misspelt_key_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="default_task: unknown key; did you mean 'default_tasks'"):
        read_description(describe(tmp_path, tasks=TASKS, default_task=["mood"]))
