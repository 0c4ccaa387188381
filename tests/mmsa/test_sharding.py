from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from mmsa.config import make_config
from mmsa.distributed import ALONE
from mmsa.errors import UsageError
from mmsa.sharding import _called, check_sharding, spread_like, whole

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Launched


@pytest.mark.slow
class TestTraining:
    @pytest.mark.parametrize("name", ["sharded", "sharded_pseudo_labels"])
    def test_updates_are_those_of_one_process_with_a_whole_model(self, launched: Launched, name: str) -> None:
        """Gradients add up over shares of unequal size, some of them empty; the checkpoint holds whole tensors."""
        torch.set_num_threads(1)
        expected, told = launched.jobs.make_updates(launched.jobs.new_trainer(name, alone=True))
        for tensors, facts in zip(launched.tensors(name), launched.facts(name), strict=True):
            assert set(tensors) == set(expected)
            for key, value in tensors.items():
                torch.testing.assert_close(value, expected[key], rtol=0, atol=2e-5)
            for own, one in zip(facts["updates"], told["updates"], strict=True):
                assert own["terms"] == pytest.approx(one["terms"], abs=1e-5)
                assert own["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)

    @pytest.mark.parametrize("name", ["encoded_full", "encoded_lora", "encoded_checkpointed"])
    def test_an_encoder_in_front_of_the_head_is_spread_too(self, launched: Launched, name: str, tmp_path: Path) -> None:
        """The biases of keys are left out: a softmax does not see them, so that AdamW makes steps of mere rounding."""
        torch.set_num_threads(1)
        trainer = launched.jobs.encoded_trainer(name, tmp_path, sharding="none")
        before = {key: value.clone() for key, value in trainer.tensors().items()}
        expected, told = launched.jobs.make_updates(trainer)
        learned = [key for key, value in expected.items() if key in before and not torch.equal(value, before[key])]
        assert any("encoders.text" in key for key in learned)
        for tensors, facts in zip(launched.tensors(name), launched.facts(name), strict=True):
            assert set(tensors) == set(expected)
            for key in sorted(set(tensors) - {key for key in tensors if key.endswith("self.key.bias")}):
                torch.testing.assert_close(tensors[key], expected[key], rtol=0, atol=1e-4)
            for own, one in zip(facts["updates"], told["updates"], strict=True):
                assert own["terms"] == pytest.approx(one["terms"], abs=1e-5)
                assert own["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)

    def test_each_process_holds_a_part_of_every_parameter(self, launched: Launched) -> None:
        first, second = launched.facts("shards")
        total = sum(p.numel() for p in launched.jobs.new_model("late").parameters())
        assert first["local"] + second["local"] == total
        assert 0.4 * total < first["local"] < 0.6 * total
        assert first["optimiser"] == first["local"] * 2  # both moments of AdamW

    def test_numbers_that_are_not_finite_end_all_processes_alike(self, launched: Launched) -> None:
        first, second = launched.facts("not_finite")
        assert first == second
        of_loss, of_gradient = first["told"]
        assert of_loss.startswith("the training loss is not finite (task = nan")
        assert of_gradient.startswith("the gradient is not finite, although the loss is: first in the weights head.")

    def test_fit_leaves_the_whole_model(self, launched: Launched) -> None:
        expected, told = launched.jobs.fitted(ema_decay=0.8)
        for tensors, facts in zip(launched.tensors("fit_sharded"), launched.facts("fit_sharded"), strict=True):
            for key, value in tensors.items():
                torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-4)
            torch.testing.assert_close(torch.tensor(facts["epochs"]), torch.tensor(told["epochs"]), rtol=0, atol=1e-5)

    def test_going_on_from_a_checkpoint_is_exact(self, launched: Launched) -> None:
        for whole_run, resumed in zip(
            launched.tensors("fit_sharded"), launched.tensors("resumed_sharded"), strict=True
        ):
            assert all(torch.equal(value, resumed[key]) for key, value in whole_run.items())
        assert launched.facts("fit_sharded")[0] == launched.facts("resumed_sharded")[0]


def test_one_process_is_refused() -> None:
    with pytest.raises(UsageError, match=r"spreads the model over processes, and there is one: launch several with"):
        check_sharding(ALONE)


@pytest.mark.parametrize("other", [{"compile": True}, {"precision": "fp16"}])
def test_what_it_does_not_go_with_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="sharding: full goes with neither compile nor precision: fp16; bf16 is fine"):
        make_config(None, {"sharding": "full", **other})
    assert make_config(None, {"sharding": "full", "precision": "bf16"}).sharding == "full"


def test_units_are_what_is_called_from_outside() -> None:
    model = nn.Module()
    model.norm = nn.BatchNorm1d(2, affine=False)
    model.head = nn.Linear(2, 2)
    model.encoders = nn.ModuleDict({"text": nn.Linear(1, 1), "audio": nn.ReLU()})
    assert list(_called(model)) == [model.head, model.encoders["text"]]


def test_tensors_of_one_process_stay_as_they_are() -> None:
    tensors = {"a": torch.ones(2)}
    assert whole(tensors)["a"] is tensors["a"]
    assert spread_like(tensors, {"a": torch.zeros(2), "b": torch.zeros(1)}) == tensors
