from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mmsa.errors import UsageError
from mmsa.registry import registered_run
from mmsa.tracking import client, find_bundle, find_run

if TYPE_CHECKING:
    from conftest import Trained
    from mlflow.tracking import MlflowClient


@pytest.fixture
def store(workspace: Path) -> MlflowClient:
    """Two versions of one model, by runs of their own; the first is called "best"."""
    found = client()
    found.create_registered_model("moods")
    for number in ("1", "2"):
        run = found.create_run("0", run_name=f"run{number}").info.run_id
        found.create_model_version("moods", f"file:///nowhere/{number}", run_id=run)
    found.set_registered_model_alias("moods", "best", "1")
    return found


@pytest.mark.parametrize(
    ("given", "run"),
    [
        ("moods", "run2"),
        ("moods:1", "run1"),
        ("moods:2", "run2"),
        ("moods:latest", "run2"),
        ("moods@best", "run1"),
        ("models:/moods/1", "run1"),
        ("models:/moods@best", "run1"),
        ("models:/moods/latest", "run2"),
    ],
)
def test_every_way_to_name_a_version(store: MlflowClient, given: str, run: str) -> None:
    found = registered_run(store, given)
    assert found is not None
    assert store.get_run(found).info.run_name == run


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("moods:3", "has no version 3; it has 1, 2"),
        ("moods@worst", "has no alias 'worst'; its versions are 1, 2"),
        ("nonesuch:1", "there is no registered model 'nonesuch'"),
        ("models:/nonesuch/1", "there is no registered model 'nonesuch'"),
    ],
)
def test_versions_that_are_not_there(store: MlflowClient, given: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        registered_run(store, given)


@pytest.mark.parametrize("given", ["nonesuch", "a" * 32, "some/folder"])
def test_other_names_are_not_the_registrys(store: MlflowClient, given: str) -> None:
    assert registered_run(store, given) is None


def test_a_registered_model_leads_to_its_runs_bundle(copied: Trained) -> None:
    store = client()
    store.create_registered_model("small")
    store.create_model_version("small", "file:///nowhere", run_id=copied.run.id)
    assert find_run("small:1") == copied.run.id
    assert find_bundle("small") == find_bundle("models:/small/1") == copied.run.bundle
