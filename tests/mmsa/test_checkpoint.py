from __future__ import annotations

import errno
import json
import os
import pickle
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fusion import SelfMM
from mmsa.checkpoint import (
    FILE,
    Checkpoints,
    module_tensors,
    optimiser_tensors,
    random_state,
    read_checkpoint,
    restore_module,
    restore_optimiser,
    restore_random_state,
)
from mmsa.errors import UsageError

CPU = torch.device("cpu")
IDENTITY = {"configuration": {"seed": 1, "epochs": 3}, "corpus": "made, 3 clips"}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "run", IDENTITY, {"threads": 1})


def test_what_was_saved_is_loaded(checkpoints: Checkpoints) -> None:
    shared = torch.arange(6.0)
    tensors = {
        "a.scalar": torch.tensor(3.0),
        "a.empty": torch.zeros(0, 4),
        "a.flags": torch.tensor([True, False]),
        "a.counts": torch.tensor([2**40], dtype=torch.int64),
        "b.half": torch.tensor([1.5], dtype=torch.bfloat16),
        "b.view": shared[1:3],
        "b.tied": shared,
        "b.turned": torch.arange(6.0).view(2, 3).T,
    }
    facts = {"epochs": [{"number": 1, "loss": 0.1 + 0.2, "nothing": float("nan")}]}
    checkpoints.save(tensors, facts)
    found = checkpoints.load()
    assert found is not None
    assert set(found.tensors) == set(tensors)
    for key, value in tensors.items():
        assert found.tensors[key].dtype == value.dtype
        assert torch.equal(found.tensors[key], value), key
    assert found.facts["epochs"][0]["loss"] == 0.1 + 0.2
    assert found.facts["environment"] == {"threads": 1}
    assert set(found.group("a")) == {"scalar", "empty", "flags", "counts"}


def test_a_new_one_replaces_the_last(checkpoints: Checkpoints) -> None:
    assert checkpoints.load() is None
    for number in (1.0, 2.0):
        checkpoints.save({"a": torch.tensor(number)}, {})
    found = checkpoints.load()
    assert found is not None
    assert found.tensors["a"] == 2.0
    assert [path.name for path in checkpoints.folder.iterdir()] == [FILE]


class TestFullDisk:
    """Whatever stops the writing, the last checkpoint is still whole, and nothing is left of the new one."""

    @staticmethod
    def still_there(checkpoints: Checkpoints) -> None:
        found = checkpoints.load()
        assert found is not None
        assert found.tensors["a"] == 1.0
        assert [path.name for path in checkpoints.folder.iterdir()] == [FILE]

    def test_while_tensors_are_written(self, checkpoints: Checkpoints) -> None:
        """A limit on file sizes fails a write in the middle of the file as a full disk does."""
        checkpoints.save({"a": torch.tensor(1.0)}, {})
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(UsageError, match=r"cannot be written .*; the last one is still there. Make room"):
                checkpoints.save({"a": torch.tensor(2.0), "b": torch.zeros(1_000_000)}, {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self.still_there(checkpoints)

    @pytest.mark.parametrize("name", ["fsync", "replace"])
    def test_when_the_file_is_brought_to_the_disk(
        self, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        checkpoints.save({"a": torch.tensor(1.0)}, {})

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(Path if name == "replace" else os, name, full)
            with pytest.raises(UsageError, match=r"No space left on device.*; the last one is still there"):
                checkpoints.save({"a": torch.tensor(2.0)}, {})
        self.still_there(checkpoints)

    def test_the_first_one(self, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
        checkpoints.folder.parent.mkdir(exist_ok=True)
        checkpoints.folder.write_text("a file where a folder should be")
        with pytest.raises(UsageError, match="there is none yet"):
            checkpoints.save({"a": torch.tensor(2.0)}, {})


def test_another_training_is_not_gone_on_with(checkpoints: Checkpoints) -> None:
    checkpoints.save({"a": torch.tensor(1.0)}, {})
    other = {"configuration": {"seed": 2, "epochs": 3}, "corpus": "made, 4 clips"}
    expected = r"configuration: seed was 1 and is 2; corpus: was 'made, 3 clips' and is 'made, 4 clips'\): put it back"
    with pytest.raises(UsageError, match=expected):
        Checkpoints(checkpoints.folder, other).load()


@pytest.mark.parametrize("damage", ["cut", "other", "pickle", "version", "foreign"])
def test_a_damaged_file_is_refused_and_nothing_in_it_runs(
    checkpoints: Checkpoints, tmp_path: Path, damage: str
) -> None:
    checkpoints.save({"a": torch.zeros(100)}, {})
    path, content = checkpoints.path, checkpoints.path.read_bytes()
    bomb = pickle.dumps(_Bomb(str(tmp_path / "exploded")))
    if damage == "version":
        save_file({"a": torch.zeros(1)}, path, {"mmsa": json.dumps({"format": 99})})
    elif damage == "foreign":
        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes({"cut": content[:-50], "other": b"x" * 40, "pickle": bomb}[damage])
    with pytest.raises(UsageError, match="another version of mmsa" if damage == "version" else "is damaged"):
        checkpoints.load()
    assert not (tmp_path / "exploded").exists()


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))


def test_two_processes_do_not_train_one_run(checkpoints: Checkpoints, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom mmsa.checkpoint import Checkpoints\n"
        "with Checkpoints(Path(sys.argv[1]), {}).locked():\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", script, str(checkpoints.folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another process is training this run"), checkpoints.locked():
            pass
        other.kill()
        other.wait()
    (checkpoints.folder / ".left.partial").touch()
    with checkpoints.locked():
        assert not (checkpoints.folder / ".left.partial").exists()


def test_deleting_leaves_nothing(checkpoints: Checkpoints) -> None:
    with checkpoints.locked():
        checkpoints.save({"a": torch.zeros(1)}, {})
    (checkpoints.folder / ".killed.partial").touch()
    checkpoints.delete()
    assert not checkpoints.folder.exists()
    checkpoints.delete()
    assert read_checkpoint(checkpoints.folder) is None


def test_what_a_head_remembers_of_clips_is_part_of_it() -> None:
    """Self-MM's pseudo-labels grow while it trains and are in no state dict."""

    def head(seed: int) -> SelfMM:
        torch.manual_seed(seed)
        return SelfMM({"audio": 2, "text": 3}, 1, hidden_dim=4)

    first, second = head(0), head(1)
    first.generator.resize(5)
    for key, buffer in first.generator.named_buffers():
        buffer.copy_(torch.arange(buffer.numel()).view_as(buffer))
        assert f"generator.{key}" not in first.state_dict()
    tensors = {key: value.clone() for key, value in module_tensors(first).items()}
    restore_module(second, tensors)
    assert second.generator.clips == 5
    assert set(module_tensors(second)) == set(tensors)
    for key, value in module_tensors(second).items():
        assert torch.equal(value, tensors[key]), key
    assert "generator.labels" not in second.state_dict()


def test_a_state_that_is_no_tensor_is_refused() -> None:
    class Odd(nn.Linear):
        def get_extra_state(self) -> list[int]:
            return [1]

    with pytest.raises(UsageError, match=r"0\._extra_state of the head's state is no tensor"):
        module_tensors(nn.Sequential(Odd(1, 1)))


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimiser_goes_on_where_it_was(kind: Any) -> None:
    def make() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        return module, kind(module.parameters(), lr=0.1)

    def step(module: nn.Linear, optimiser: torch.optim.Optimizer, number: int) -> None:
        optimiser.zero_grad()
        module(torch.full((1, 3), float(number))).sum().backward()
        optimiser.step()

    first, second = make(), make()
    for number in range(3):
        step(*first, number)
    restore_module(second[0], {key: value.clone() for key, value in module_tensors(first[0]).items()})
    restore_optimiser(second[1], {key: value.clone() for key, value in optimiser_tensors(first[1]).items()})
    for number in range(3, 6):
        step(*first, number)
        step(*second, number)
    assert torch.equal(first[0].weight, second[0].weight)


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), float(np.random.normal()), float(torch.randn(()))]  # noqa: NPY002

    draw()  # leaves half of a pair of normal numbers in numpy's and Python's generators
    with torch.random.fork_rng(devices=[]):
        checkpoints = Checkpoints(tmp_path, {})
        tensors, facts = random_state(CPU)
        checkpoints.save(tensors, {"random": facts})
        expected = [draw() for _ in range(3)]
        found = checkpoints.load()
        assert found is not None
        restore_random_state(found.tensors, found.facts["random"], CPU)
        assert [draw() for _ in range(3)] == expected
