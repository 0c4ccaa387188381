from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import mmsa.distributed
from mmsa.bundle import load_bundle
from mmsa.config import TrainConfig
from mmsa.distributed import ALONE, Group, LostProcessError, current, is_main, join, launched, own_device, refuse_launch
from mmsa.errors import UsageError
from mmsa.runs import train, train_seeds
from mmsa.tracking import client, find_bundle

if TYPE_CHECKING:
    from conftest import Launched

Mmsa = Callable[..., tuple[int, str, str]]
NAMES = ("MASTER_ADDR", "WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")


@pytest.fixture(autouse=True)
def _no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


class TestEnvironment:
    def test_without_a_launcher_a_process_is_alone(self) -> None:
        assert (launched(), is_main(), current()) == (1, True, ALONE)
        assert join() is ALONE
        refuse_launch("mmsa evaluate")
        assert own_device(torch.device("cuda")) == torch.device("cuda")

    @pytest.mark.parametrize(
        ("environment", "count", "main"),
        [
            ({"WORLD_SIZE": "4", "RANK": "0"}, 4, True),
            ({"WORLD_SIZE": "4", "RANK": "3"}, 4, False),
            ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, 2, False),
            ({"WORLD_SIZE": "1", "RANK": "0"}, 1, True),
            ({"RANK": "3"}, 1, True),
        ],
        ids=str,
    )
    def test_launchers_say_how_many_there_are(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], count: int, main: bool
    ) -> None:
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        assert launched() == 1  # a leftover variable is no launch: nobody says where the others are
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        assert (launched(), is_main()) == (count, main)

    def test_other_commands_are_refused(self, monkeypatch: pytest.MonkeyPatch, run_mmsa: Mmsa) -> None:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        code, _, err = run_mmsa("evaluate", "latest")
        assert code == 2
        assert "mmsa evaluate is not for 2 launched processes" in err

    def test_seeds_side_by_side_are_refused(self, monkeypatch: pytest.MonkeyPatch, untrained: TrainConfig) -> None:
        monkeypatch.setattr(mmsa.runs, "join", lambda: Group(0, 2))
        with pytest.raises(UsageError, match=r"2 seeds side by side.*but 2 processes were launched to share each"):
            next(train_seeds(untrained, (1, 2), processes=2))

    def test_each_process_takes_its_own_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mmsa.distributed, "_group", Group(5, 8, 1))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
        assert own_device(torch.device("cuda")) == torch.device("cuda", 1)
        assert own_device(torch.device("cpu")) == torch.device("cpu")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
        with pytest.raises(UsageError, match=r"5 processes on a machine with 4 CUDA device\(s\).*or give --device cpu"):
            own_device(torch.device("cuda"))


class TestAlone:
    def test_a_process_alone_agrees_with_itself(self) -> None:
        assert ALONE.gather(3) == [3]
        assert ALONE.share(lambda: 4) == ALONE.in_turns(lambda: 4) == 4
        assert [ALONE.decide(choice) for choice in (True, False)] == [True, False]
        ALONE.must_agree({"corpus": "one"})
        module = torch.nn.Linear(1, 1)
        ALONE.same_weights(module)

    def test_errors_of_its_own_stay_what_they_are(self) -> None:
        with pytest.raises(RuntimeError, match=r"^of gloo$"), ALONE.stopping_together():
            raise RuntimeError("of gloo")
        with pytest.raises(RuntimeError, match=r"^out of memory$"), Group(0, 2).stopping_together():
            raise RuntimeError("out of memory")

    def test_a_broken_connection_says_what_to_do(self) -> None:
        with (
            pytest.raises(
                LostProcessError, match=r"another of the 2 processes ended.*process 1.*train --resume latest"
            ),
            Group(1, 2).stopping_together(),
        ):
            raise RuntimeError("[../third_party/gloo/pair.cc:5] Connection closed by peer [127.0.0.1]:1234")


@pytest.mark.slow
def test_processes_tell_each_other(launched: Launched) -> None:
    first, second = launched.facts("control")
    for told in (first, second):
        assert told["gathered"] == [0, 10]
        assert told["shared"] == "made by 0"
        assert told["decided"] is True
        assert told["failures"] == [
            "no such run",
            "process 1 of 2: the disk is full",
            "process 1 of 2 would not train what process 0 trains (features.text: 'seen by 1' there, 'seen by 0' "
            "here): start all with the same command on the same data",
        ]
        assert told["weights"] == [[1.0, 1.0], [True]]
    assert (first["order"], second["order"]) == (0, 1)  # the one that extracts comes first


@pytest.mark.slow
def test_a_launch_is_one_run_that_equals_one_process_and_outlives_a_kill(untrained: TrainConfig) -> None:
    """Two seeds with `torchrun`, of the second of which a process is killed; `accelerate launch` goes on with it."""
    from conftest import launch

    script, here = Path(__file__).with_name("launched_train.py"), Path.cwd()
    config = untrained.model_copy(update={"epochs": 4, "head": {"hidden_dim": 6, "dropout": 0.0}})
    (here / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    words = ("train", "--config", here / "config.json", "--seeds", "1,2", "--json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KILL_AT", "2:4")
        killed = launch(2, script, *words, cwd=here, expected=1)
    (first,) = (json.loads(line) for line in killed.stdout.splitlines())
    assert killed.stderr.count("Extracting audio, text of small (31)") == 1
    assert killed.stderr.count("epoch   1") == killed.stderr.count("epoch   3") == 2
    # The launcher's signal may be quicker than the broken connection.
    assert re.search("Error: another of the 2 processes ended|or another process of the training ended", killed.stderr)
    assert [run.info.status for run in runs()].count("FINISHED") == 1
    assert len(runs()) == 2
    by = ("-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1", "--multi_gpu")
    resumed = launch(2, script, "train", "--resume", "latest", "--json", cwd=here, by=(*by, "--main_process_port", "0"))
    assert "goes on after epoch 3." in resumed.stderr
    second = json.loads(resumed.stdout)
    assert [run.info.status for run in runs()] == ["FINISHED"] * 2
    assert {run.data.params["processes"] for run in runs()} == {"2"}
    for found, seed in ((first, 1), (second, 2)):
        alone = train(config.model_copy(update={"seed": seed, "experiment": "alone"}))
        assert (found["seed"], found["epochs"], found["best_epoch"]) == (seed, alone.epochs, alone.best_epoch)
        for subset, metrics in alone.metrics.items():
            assert found["metrics"][subset] == pytest.approx(dict(metrics), abs=1e-4), subset
        weights = load_bundle(find_bundle(found["id"])).model.state_dict()
        for key, value in load_bundle(alone.bundle).model.state_dict().items():
            torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-4, msg=key)


def runs() -> list[object]:
    store = client()
    return list(store.search_runs([found.experiment_id for found in store.search_experiments()]))
