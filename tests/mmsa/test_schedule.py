from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from mmsa.config import TrainConfig
from mmsa.schedule import LearningRate, MovingAverage


def rate(updates_per_epoch: int = 4, **values: object) -> LearningRate:
    return LearningRate(TrainConfig.model_validate({"epochs": 5, **values}), updates_per_epoch)


def test_without_a_schedule_nothing_changes() -> None:
    constant = rate()
    for better in (False,) * 9:
        constant.after_epoch(better=better)
    assert {constant.factor(update) for update in range(20)} == {1.0}


def test_the_warm_up_rises_linearly_and_starts_above_zero() -> None:
    warm = rate(warmup_epochs=0.75)  # three updates
    assert [warm.factor(update) for update in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_the_cosine_ends_at_its_last_update() -> None:
    """20 updates, 4 of them warm-up: the middle of the 16 others lies at update 11.5."""
    cosine = rate(schedule="cosine", warmup_epochs=1, final_share=0.2)
    assert cosine.factor(3) == pytest.approx(0.8)
    assert cosine.factor(4) == pytest.approx(1.0)
    assert (cosine.factor(11) + cosine.factor(12)) / 2 == pytest.approx(0.6)
    assert cosine.factor(19) == pytest.approx(0.2)
    assert cosine.factor(7) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * 3 / 15)) / 2)
    falling = [cosine.factor(update) for update in range(4, 20)]
    assert falling == sorted(falling, reverse=True)


def test_the_plateau_falls_after_so_many_epochs_without_a_better_one() -> None:
    plateau = rate(schedule="plateau", plateau_epochs=2, plateau_factor=0.1, warmup_epochs=0.25)
    found = []
    for better in (True, False, True, False, False, False, False, True):
        plateau.after_epoch(better=better)
        found.append(plateau.factor(10))
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert plateau.factor(0) == pytest.approx(0.5 * 0.01)


def test_a_plateau_goes_on_where_it_was() -> None:
    settings = {"schedule": "plateau", "plateau_epochs": 2}
    first, second = rate(**settings), rate(**settings)
    for better in (True, False, False, False):
        first.after_epoch(better=better)
    second.restore(first.state())
    for each in (first, second):
        each.after_epoch(better=False)
    assert first.factor(0) == second.factor(0) == 0.25


class TestMovingAverage:
    @staticmethod
    def trained(decay: float, updates: int = 30) -> tuple[nn.Linear, MovingAverage, list[torch.Tensor]]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        average = MovingAverage(module, decay)
        seen = [module.weight.detach().clone()]
        for _ in range(updates):
            with torch.no_grad():
                module.weight.add_(torch.randn_like(module.weight))
            average.update()
            seen.append(module.weight.detach().clone())
        return module, average, seen

    def test_by_the_formula(self) -> None:
        _, average, (start, *seen) = self.trained(0.75)
        expected = start.double()
        for number, weights in enumerate(seen, 1):
            decay = min(0.75, number / (number + 9))
            expected = decay * expected + (1 - decay) * weights.double()
        torch.testing.assert_close(average.average["weight"].double(), expected, rtol=1e-5, atol=1e-6)

    def test_it_is_applied_and_taken_back(self) -> None:
        module, average, seen = self.trained(0.9)
        held = average.average["weight"].clone()
        with pytest.raises(KeyError), average.applied():
            raise KeyError(torch.testing.assert_close(module.weight.detach(), held, rtol=0, atol=0))
        assert torch.equal(module.weight, seen[-1])
        assert torch.equal(average.average["weight"], held)

    def test_it_goes_on_where_it_was(self) -> None:
        module, average, _ = self.trained(0.9, updates=3)
        other_module = copy.deepcopy(module)
        other = MovingAverage(other_module, 0.9)
        other.restore({key: value.clone() for key, value in average.tensors().items()}, average.updates)
        for each in (module, other_module):
            with torch.no_grad():
                each.weight.mul_(2)
        average.update()
        other.update()
        assert torch.equal(other.average["weight"], average.average["weight"])
