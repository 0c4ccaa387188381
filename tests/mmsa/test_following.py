from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from mmsa.checkpoint import Checkpoints
from mmsa.distributed import ALONE, Group
from mmsa.following import FollowingTracker, SharedCheckpoints

if TYPE_CHECKING:
    from conftest import Launched


def test_a_following_run_asks_no_store(tmp_path: Path) -> None:
    run = FollowingTracker("abc")
    run.params({"a": 1})
    run.metrics({"b": 2.0}, 3)
    run.tags({"c": "d"})
    run.artifacts(tmp_path)
    assert run.run_id == "abc"


class TestSharedCheckpoints:
    def test_the_main_process_alone_touches_the_disk(self, tmp_path: Path) -> None:
        own = Checkpoints(tmp_path / "run", {"a": 1}, every_updates=3)
        follower, main = SharedCheckpoints(own, Group(1, 2)), SharedCheckpoints(own, ALONE)
        with follower.locked():
            follower.save({"x": torch.ones(2)}, {})
        assert not own.folder.exists()
        with main.locked():
            main.save({"x": torch.ones(2)}, {"epochs": 1})
            follower.delete()
            assert own.path.is_file()
            found = own.load()
            assert found is not None
            assert found.facts["epochs"] == 1
        assert (follower.every_updates, follower.identity) == (3, {"a": 1})
        main.delete()
        assert not own.folder.exists()


@pytest.mark.slow
class TestGoingOn:
    def test_as_many_processes_are_exact(self, launched: Launched) -> None:
        """Dropout between modalities is drawn, so that the generators must be where they were."""
        for whole, resumed in zip(launched.tensors("fit"), launched.tensors("resumed"), strict=True):
            assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
        assert launched.facts("fit")[0] == launched.facts("resumed")[0]
        assert len(launched.facts("fit")[0]["epochs"]) == 4

    def test_another_number_of_processes_can(self, launched: Launched, tmp_path: Path) -> None:
        torch.set_num_threads(1)
        folder = tmp_path / "checkpoint"
        shutil.copytree(launched.folder / "checkpoint-stopped", folder)
        tensors, facts = launched.jobs.fitted(folder)
        expected, _ = launched.jobs.fitted()
        assert len(facts["epochs"]) == 2
        for key, value in tensors.items():
            torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-4)
